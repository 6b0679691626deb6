//! What stands between the nodes: a proxy in front of each, for everything on which it listens.
//!
//! A node listens on an address of its own (`127.x.0.n`) and tells the others another one
//! (`127.x.1.n`, its front). There this process listens on the same ports, TCP and UDP, and passes
//! on. So each packet between two nodes goes through here, and one direction of one pair can be cut.
//!
//! - `CUT-1` who called is known: of TCP by the process that holds the calling socket, as `/proc` says
//!   after the call, of UDP by the address that it is sent from;
//! - `CUT-2` what is cut is held (TCP) or lost (UDP), as by a network; nothing is refused or reset.
//!   Bytes that were held get through after the heal;
//! - `CUT-3` a new connection needs both directions.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// How often the nodes are looked at for new ports.
const LOOK: Duration = Duration::from_millis(100);

type Pair = (usize, usize);

/// Where a node listens, and what it tells the others.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub real: Ipv4Addr,
    pub front: Ipv4Addr,
}

/// All links.
pub struct Links {
    nodes: Vec<Address>,
    /// The process of each node that runs.
    pids: Mutex<Vec<Option<u32>>>,
    callers: Mutex<Callers>,
    cuts: watch::Sender<BTreeSet<Pair>>,
    carried: AtomicU64,
}

impl Links {
    /// Addresses that nobody else uses, for so many nodes.
    pub fn addresses(count: usize) -> Vec<Address> {
        let net: u8 = rand::random_range(2..250);
        let address = |n: usize| {
            let last = 10 + n as u8;
            Address {
                real: Ipv4Addr::new(127, net, 0, last),
                front: Ipv4Addr::new(127, net, 1, last),
            }
        };
        (0..count).map(address).collect()
    }

    /// Stands in front of all nodes from now on; heartbeats go to `udp_port`.
    pub async fn start(nodes: Vec<Address>, udp_port: u16) -> io::Result<Arc<Links>> {
        let pids = Mutex::new(vec![None; nodes.len()]);
        let (cuts, carried) = (watch::Sender::new(BTreeSet::new()), AtomicU64::new(0));
        let callers = Mutex::default();
        let links = Arc::new(Links { nodes, pids, callers, cuts, carried });
        for to in 0..links.nodes.len() {
            let front = UdpSocket::bind((links.nodes[to].front, udp_port)).await?;
            tokio::spawn(links.clone().beats(to, Arc::new(front), udp_port));
        }
        tokio::spawn(links.clone().follow_ports());
        Ok(links)
    }

    /// Which process a node is now.
    pub fn runs(&self, node: usize, pid: Option<u32>) {
        self.pids.lock().unwrap()[node] = pid;
    }

    /// Lets nothing more through in one direction.
    pub fn cut(&self, from: usize, to: usize) {
        self.cuts.send_modify(|cuts| _ = cuts.insert((from, to)));
    }

    /// Lets everything through in one direction.
    pub fn heal(&self, from: usize, to: usize) {
        self.cuts.send_modify(|cuts| _ = cuts.remove(&(from, to)));
    }

    /// Bytes that went from node to node.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    fn is_cut(&self, pair: Pair) -> bool {
        self.cuts.borrow().contains(&pair)
    }

    async fn open(&self, pair: Pair) {
        let mut cuts = self.cuts.subscribe();
        let _ = cuts.wait_for(|cuts| !cuts.contains(&pair)).await;
    }

    /// Opens a front for each port on which a node begins to listen.
    async fn follow_ports(self: Arc<Self>) {
        let mut known = BTreeSet::new();
        loop {
            for row in tcp_rows().into_iter().filter(TcpRow::listens) {
                let node = self.nodes.iter().position(|n| row.local.ip() == IpAddr::V4(n.real));
                let Some(node) = node else { continue };
                let front = (self.nodes[node].front, row.local.port());
                if known.insert(front) {
                    let listener = TcpListener::bind(front).await.unwrap();
                    tokio::spawn(self.clone().accept(node, listener));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn accept(self: Arc<Self>, to: usize, listener: TcpListener) {
        loop {
            let Ok((stream, caller)) = listener.accept().await else { continue };
            tokio::spawn(self.clone().carry(to, stream, caller));
        }
    }

    async fn carry(self: Arc<Self>, to: usize, caller: TcpStream, address: SocketAddr) {
        let (this, called) = (self.clone(), Instant::now());
        let from = tokio::task::spawn_blocking(move || this.who_holds(address, called)).await;
        let Ok(Some(from)) = from else { return }; // its process is gone, or it is none of ours
        self.open((from, to)).await; // CUT-3
        self.open((to, from)).await;
        let port = caller.local_addr().map_or(0, |a| a.port());
        let Ok(callee) = TcpStream::connect((self.nodes[to].real, port)).await else { return };
        let _ = (caller.set_nodelay(true), callee.set_nodelay(true));
        let (near_read, near_write) = caller.into_split();
        let (far_read, far_write) = callee.into_split();
        let there = self.pump(near_read, far_write, (from, to));
        let back = self.pump(far_read, near_write, (to, from));
        let _ = tokio::try_join!(there, back); // an error ends both
    }

    async fn pump(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        pair: Pair,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.open(pair).await;
            let read = from.read(&mut buffer).await;
            self.open(pair).await; // CUT-2; an end is news, too
            match read? {
                0 => return to.shutdown().await,
                n => to.write_all(&buffer[..n]).await?,
            }
            self.carried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// CUT-1: the node that holds a socket with this local address. One look serves all calls that
    /// came before it.
    fn who_holds(&self, socket: SocketAddr, called: Instant) -> Option<usize> {
        let mut callers = self.callers.lock().unwrap();
        if callers.looked.is_none_or(|at| at < called) {
            *callers = Callers { looked: Some(Instant::now()), sockets: self.sockets() };
        }
        callers.sockets.get(&socket).copied()
    }

    /// Which node holds which TCP socket.
    fn sockets(&self) -> HashMap<SocketAddr, usize> {
        let pids = self.pids.lock().unwrap().clone();
        let mut nodes: HashMap<String, usize> = HashMap::new();
        for (node, pid) in pids.iter().enumerate() {
            let open = pid.and_then(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok());
            for file in open.into_iter().flatten().flatten() {
                let link = std::fs::read_link(file.path()).unwrap_or_default();
                let inode = link.to_str().and_then(|l| l.strip_prefix("socket:["));
                nodes.extend(inode.map(|l| (l.trim_end_matches(']').to_owned(), node)));
            }
        }
        let rows = tcp_rows().into_iter();
        rows.filter_map(|row| Some((row.local, *nodes.get(&row.inode)?))).collect()
    }

    /// Heartbeats to one node. Each sender gets a socket of its own towards it, so that answers find
    /// back.
    async fn beats(self: Arc<Self>, to: usize, front: Arc<UdpSocket>, port: u16) {
        let mut relays: HashMap<usize, Arc<UdpSocket>> = HashMap::new();
        let mut packet = [0; 2048];
        loop {
            let Ok((len, sender)) = front.recv_from(&mut packet).await else { continue };
            let from = self.nodes.iter().position(|n| sender.ip() == IpAddr::V4(n.real));
            let Some(from) = from.filter(|from| !self.is_cut((*from, to))) else { continue };
            if let Entry::Vacant(place) = relays.entry(from) {
                let relay = UdpSocket::bind((self.nodes[from].front, 0)).await.unwrap();
                relay.connect((self.nodes[to].real, port)).await.unwrap();
                let relay = place.insert(Arc::new(relay)).clone();
                tokio::spawn(self.clone().answers((to, from), relay, front.clone(), sender));
            }
            let _ = relays[&from].send(&packet[..len]).await; // nobody there: lost
        }
    }

    async fn answers(
        self: Arc<Self>,
        pair: Pair,
        relay: Arc<UdpSocket>,
        front: Arc<UdpSocket>,
        asker: SocketAddr,
    ) {
        let mut packet = [0; 2048];
        loop {
            match relay.recv(&mut packet).await {
                Ok(len) if !self.is_cut(pair) => {
                    let _ = front.send_to(&packet[..len], asker).await;
                }
                _ => {} // cut; or the port is closed while the node is away
            }
        }
    }
}

/// What the last look at the processes showed.
#[derive(Default)]
struct Callers {
    looked: Option<Instant>,
    sockets: HashMap<SocketAddr, usize>,
}

/// One row of `/proc/net/tcp`.
struct TcpRow {
    local: SocketAddr,
    state: String,
    inode: String,
}

impl TcpRow {
    fn listens(&self) -> bool {
        self.state == "0A"
    }
}

fn tcp_rows() -> Vec<TcpRow> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = words.get(1)?.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_le_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        let (state, inode) = (words.get(3)?.to_string(), words.get(9)?.to_string());
        Some(TcpRow { local: (ip, port).into(), state, inode })
    };
    table.lines().skip(1).filter_map(row).collect()
}
