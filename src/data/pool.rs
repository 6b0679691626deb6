//! Connections of the data client that wait for their next transfer.
//!
//! - `POOL-1` at most so many idle connections per address, each for at most so long;
//! - `POOL-2` a connection comes back only after a transfer that ended well; any other is closed.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::body::Upload;
use super::client::ClientOptions;
use super::{BUFFER, stream};
use crate::cluster::transport::Transport;

/// One connection; dropping it closes it, whatever is under way on it.
pub(super) struct Connection {
    pub sender: SendRequest<Upload>,
    address: String,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
struct Table {
    idle: HashMap<String, Vec<Idle>>,
    /// Whether the task that closes old connections runs.
    sweeping: bool,
}

/// The idle connections of one client.
pub(super) struct Pool {
    options: ClientOptions,
    transport: Transport,
    table: Mutex<Table>,
}

impl Pool {
    pub fn new(options: ClientOptions, transport: Transport) -> Arc<Self> {
        Arc::new(Pool { options, transport, table: Mutex::default() })
    }

    /// The youngest idle connection to `address` that still stands.
    pub fn take(&self, address: &str) -> Option<Connection> {
        let mut table = self.table();
        let idle = table.idle.get_mut(address)?;
        while let Some(Idle { connection, since }) = idle.pop() {
            if connection.sender.is_ready() && since.elapsed() < self.options.idle {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    pub async fn connect(&self, address: &str) -> io::Result<Connection> {
        let (connect, stall) = (self.options.connect, self.options.stall);
        let stream = stream::dial(&self.transport, address, connect, stall).await;
        let stream = stream.map_err(|trouble| {
            if let Some(kind) = trouble.complaint() {
                self.transport.complain(kind, address, &trouble);
            }
            io::Error::other(trouble)
        })?;
        let handshake =
            http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "data connection ended");
            }
        });
        Ok(Connection { sender, address: address.to_owned(), driver })
    }

    /// Keeps a connection for its next transfer (POOL-2).
    pub fn give_back(self: &Arc<Self>, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut table = self.table();
        let idle = table.idle.entry(connection.address.clone()).or_default();
        if idle.len() >= self.options.idle_connections {
            return; // POOL-1
        }
        idle.push(Idle { connection, since: Instant::now() });
        if !std::mem::replace(&mut table.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.options.idle));
        }
    }

    /// Closes what is idle for too long; says whether anything is left.
    fn close_old(&self) -> bool {
        let mut table = self.table();
        table.idle.retain(|_, idle| {
            idle.retain(|i| {
                !i.connection.sender.is_closed() && i.since.elapsed() < self.options.idle
            });
            !idle.is_empty()
        });
        table.sweeping = !table.idle.is_empty();
        table.sweeping
    }

    /// How many connections are idle.
    pub fn idle(&self) -> usize {
        self.table().idle.values().map(Vec::len).sum()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic while the table is held")
    }
}

async fn sweep(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        match pool.upgrade() {
            Some(pool) if pool.close_old() => (),
            _ => return,
        }
    }
}
