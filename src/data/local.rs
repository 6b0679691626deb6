//! Transfers between the flows and the storage node of one process: no socket in between.
//!
//! The data client takes this way where a ticket names the own data plane. Tickets, limits and the
//! end of the actor mean the same as over a connection (DATA-1, DATA-2, DATA-5).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::client::TransferError;
use super::desk::{Desk, Running, Transfers};
use super::receive::{Expected, ReceiveError, Source, receive};
use super::server::open_range;
use super::ticket::{Direction, Grant};
use super::words::{StorageError, StoredInfo, Ticket};
use crate::types::DataId;

/// How long a transfer may move no byte; as the data server has it.
const STALL: Duration = Duration::from_secs(60);

/// The storage node of this process.
#[derive(Clone)]
pub(super) struct Local {
    pub address: String,
    pub desk: Arc<Desk>,
}

/// The bytes of a granted range.
pub(super) struct LocalRange {
    pub len: u64,
    pub bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// Cancelled when the actor ended.
    pub closed: CancellationToken,
}

impl Local {
    fn begin(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        direction: Direction,
    ) -> Result<(Arc<Transfers>, Grant, Running), TransferError> {
        let gone = || TransferError::Connect(ticket.address.clone(), "no storage actor".into());
        let transfers = self.desk.current().ok_or_else(gone)?;
        let begun = transfers.begin(ticket.id, data_id, direction);
        let (grant, running) = begun.ok_or_else(|| {
            let why = "no such ticket (unknown, used, expired or for something else)";
            TransferError::Refused(StorageError::Invalid(why.into()))
        })?;
        Ok((transfers, grant, running))
    }

    /// Stores what the source gives.
    pub async fn put(
        &self,
        ticket: &Ticket,
        data_id: DataId,
        source: &mut impl Source,
        hashed: bool,
    ) -> Result<StoredInfo, TransferError> {
        let (transfers, grant, running) = self.begin(ticket, data_id, Direction::In)?;
        let Grant::Write { len, .. } = grant else { return Err(broken("not for writing")) };
        let (store, expected) = (running.store().clone(), Expected { len, md5: None, hashed });
        tokio::select! {
            received = receive(store, data_id, expected, source, STALL) => {
                received.map_err(|error| match error {
                    ReceiveError::Refused(error) => TransferError::Refused(error),
                    ReceiveError::Broken(why) => TransferError::Broken(why),
                })
            }
            () = transfers.closed().cancelled() => Err(broken("the storage actor ended")),
        }
    }

    /// Opens a granted range.
    pub async fn get(&self, ticket: &Ticket, data_id: DataId) -> Result<LocalRange, TransferError> {
        let (transfers, grant, running) = self.begin(ticket, data_id, Direction::Out)?;
        let Grant::Read { offset, len, .. } = grant else { return Err(broken("not for reading")) };
        let opened = open_range(running, data_id, offset, len).await;
        let bytes = Box::pin(opened.map_err(TransferError::Refused)?);
        Ok(LocalRange { len, bytes, closed: transfers.closed().clone() })
    }
}

fn broken(why: &str) -> TransferError {
    TransferError::Broken(why.to_owned())
}
