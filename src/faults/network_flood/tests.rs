//! Judged from outside: by listeners of the tests and by what the kernel tells in /proc. One at a
//! time, since the threads of all floods have the same names.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
};

use super::*;

mod files_left;
mod lets_go;
mod modes;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const LONG: Duration = Duration::from_secs(60);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn sleep(n: u64) {
    std::thread::sleep(ms(n));
}

/// Waits for it; says whether it came within 5 s.
fn comes(mut it: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if it() {
            return true;
        }
        if begun.elapsed() > Duration::from_secs(5) {
            return false;
        }
        sleep(5);
    }
}

fn constant(level: f64) -> Curve {
    Arc::new(move |_| level)
}

fn flood(settings: Settings, curve: Curve) -> (Box<NetworkFlood>, Term) {
    let term = Term::new(LONG, LONG);
    let flood = NetworkFlood::start(settings, curve, term.clone()).expect("it is refused");
    (Box::new(flood), term)
}

/// Names of threads of floods that there are.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    let mut names: Vec<_> = names.map(|n| n.trim().to_owned()).collect();
    names.retain(|n| n.starts_with("fault-flood"));
    names.sort();
    names
}

/// A row of /proc/self/net/tcp.
#[derive(Debug)]
struct Row {
    local: u16,
    remote: u16,
    state: u8,
    unsent: u64,
    unread: u64,
}

const ESTABLISHED: u8 = 1;

/// What the kernel knows about sockets with this port on either side.
fn rows(port: u16) -> Vec<Row> {
    let text = ["tcp", "tcp6"].map(|f| std::fs::read_to_string(format!("/proc/self/net/{f}")));
    let hex = |s: &str| u64::from_str_radix(s, 16).unwrap();
    let parse = |line: &str| {
        let part: Vec<&str> = line.split_whitespace().collect();
        let port = |s: &str| hex(s.rsplit(':').next().unwrap()) as u16;
        let (unsent, unread) = part[4].split_once(':').unwrap();
        let (unsent, unread) = (hex(unsent), hex(unread));
        let state = hex(part[3]) as u8;
        Row { local: port(part[1]), remote: port(part[2]), state, unsent, unread }
    };
    let text = text.map(Result::unwrap);
    let all = text.iter().flat_map(|t| t.lines().skip(1)).map(parse);
    all.filter(|row| row.local == port || row.remote == port).collect()
}

/// How many connections to this port are in this state, on the flood's side.
fn ours(port: u16, state: u8) -> usize {
    rows(port).iter().filter(|r| r.remote == port && r.state == state).count()
}

/// Nothing is left of a flood against this port: no thread, no socket, whatever its state.
fn nothing_left(port: u16) {
    assert_eq!(threads(), Vec::<String>::new());
    let left: Vec<_> = rows(port).into_iter().filter(|r| r.remote == port).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What was asked for is what was achieved and what was given up.
fn add_up(books: &Progress, tolerance: f64) {
    let left = books.requested_total - books.effective_total - books.shortfall_total;
    let most = 1e-6 + tolerance * books.requested_total;
    assert!(left.abs() <= most, "{left} of {books:?}");
}

fn aside(books: &Progress, name: &str) -> f64 {
    books.aside.iter().find(|(n, _)| *n == name).unwrap().1
}

/// A target that takes each connection and reads all of it.
struct Reader {
    address: SocketAddr,
    /// Connections taken, those open now, bytes read.
    seen: Arc<[AtomicU64; 3]>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn new(address: &str) -> Reader {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, over) = (Arc::<[AtomicU64; 3]>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            move || {
                let mut open: Vec<TcpStream> = Vec::new();
                let mut buffer = vec![0; 1 << 20];
                while !over.load(Ordering::Relaxed) {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true).unwrap();
                        open.push(stream);
                        seen[0].fetch_add(1, Ordering::Relaxed);
                    }
                    open.retain_mut(|stream| match stream.read(&mut buffer) {
                        Ok(0) => false,
                        Ok(n) => {
                            seen[2].fetch_add(n as u64, Ordering::Relaxed);
                            true
                        }
                        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
                    });
                    seen[1].store(open.len() as u64, Ordering::Relaxed);
                    sleep(1);
                }
            }
        });
        Reader { address, seen, over, thread: Some(thread) }
    }

    fn taken(&self) -> u64 {
        self.seen[0].load(Ordering::Relaxed)
    }

    fn open(&self) -> u64 {
        self.seen[1].load(Ordering::Relaxed)
    }

    fn read(&self) -> u64 {
        self.seen[2].load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// A target that is frozen: it never takes a connection, and `backlog` + 1 find room in its queue.
struct Frozen {
    address: SocketAddr,
    _socket: OwnedFd,
}

impl Frozen {
    fn new(backlog: i32) -> Frozen {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&socket, Backlog::new(backlog).unwrap()).unwrap();
        let address: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
        Frozen { address: SocketAddr::from(address), _socket: socket }
    }
}

/// A port of this machine where nobody listens.
fn nobody() -> SocketAddr {
    Frozen::new(1).address
}
