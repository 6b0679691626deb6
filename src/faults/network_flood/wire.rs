//! One TCP connection of a flood: opened without waiting (FLOOD-2), closed with a reset (FLOOD-3).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, send,
    setsockopt, socket, sockopt,
};

use super::target;

/// Why a connection did not come about, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody listens.
    Refused,
    /// The other side, or something between, ended it.
    Reset,
    /// No answer in time.
    TimedOut,
    /// All local ports to this target are in use.
    NoPort,
    /// The process or the machine has no file descriptor left.
    NoFile,
    /// The kernel has no memory for it.
    NoMemory,
    /// FLOOD-1: the target is not one that may be hit.
    Forbidden,
    /// Anything else, such as no route.
    Other,
}

impl Trouble {
    /// All there are, in the order of their declaration.
    pub(super) const ALL: [Trouble; 8] = [
        Trouble::Refused,
        Trouble::Reset,
        Trouble::TimedOut,
        Trouble::NoPort,
        Trouble::NoFile,
        Trouble::NoMemory,
        Trouble::Forbidden,
        Trouble::Other,
    ];

    /// As the books name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Trouble::Refused => "refused",
            Trouble::Reset => "reset",
            Trouble::TimedOut => "timed_out",
            Trouble::NoPort => "no_port",
            Trouble::NoFile => "no_file",
            Trouble::NoMemory => "no_memory",
            Trouble::Forbidden => "forbidden",
            Trouble::Other => "other",
        }
    }

    /// Whether the machine has run out of something: it does not help to try again at once.
    pub(super) fn scarce(self) -> bool {
        matches!(self, Trouble::NoPort | Trouble::NoFile | Trouble::NoMemory)
    }

    fn of(errno: Errno) -> Trouble {
        match errno {
            Errno::ECONNREFUSED => Trouble::Refused,
            Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED => Trouble::Reset,
            Errno::ETIMEDOUT => Trouble::TimedOut,
            Errno::EADDRNOTAVAIL | Errno::EADDRINUSE | Errno::EAGAIN => Trouble::NoPort,
            Errno::EMFILE | Errno::ENFILE => Trouble::NoFile,
            Errno::ENOBUFS | Errno::ENOMEM => Trouble::NoMemory,
            _ => Trouble::Other,
        }
    }
}

/// A connection, or one that is being made. Dropping it resets it.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Begins a connection, if the target is one that may be hit; [`Socket::failed`] tells what
    /// came of it once it is [`ready`].
    pub(super) fn open(target: SocketAddr, allowed: &[IpAddr]) -> Result<Socket, Trouble> {
        target::check(target, allowed).map_err(|_| Trouble::Forbidden)?; // FLOOD-1
        let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, None).map_err(Trouble::of)?;
        // Set before anything can go wrong, so that each way out is a reset (FLOOD-3).
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&fd, sockopt::Linger, &at_once).map_err(Trouble::of)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(Socket(fd)),
            Err(errno) => Err(Trouble::of(errno)),
        }
    }

    /// What went wrong with it, if anything did.
    pub(super) fn failed(&self) -> Option<Trouble> {
        match getsockopt(&self.0, sockopt::SocketError) {
            Ok(0) => None,
            Ok(errno) => Some(Trouble::of(Errno::from_raw(errno))),
            Err(errno) => Some(Trouble::of(errno)),
        }
    }

    /// Hands bytes to the kernel and says how many it took: none if its buffer is full.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, Trouble> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(self.0.as_raw_fd(), bytes, flags) {
            Ok(taken) => Ok(taken),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(Trouble::of(errno)),
        }
    }
}

/// What to ask of many connections at once.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Whether the attempt is decided, either way.
    Decided,
    /// Whether the other side has ended it.
    Ended,
}

/// The answer for each of them, in their order; never waits.
pub(super) fn ready<'a>(sockets: impl Iterator<Item = &'a Socket>, ask: Ask) -> Vec<bool> {
    let events = match ask {
        Ask::Decided => PollFlags::POLLOUT,
        Ask::Ended => PollFlags::from_bits_retain(libc::POLLRDHUP),
    };
    let mut polled: Vec<PollFd> = sockets.map(|s| PollFd::new(s.0.as_fd(), events)).collect();
    if !matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..)) {
        return vec![false; polled.len()];
    }
    // None: something is there that nix has no name for, which is POLLRDHUP.
    polled.iter().map(|p| p.any() != Some(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_opened_to_an_address_that_may_not_be_hit() {
        for target in ["8.8.8.8:80", "127.0.0.1:0", "[::ffff:8.8.8.8]:80"] {
            let open = Socket::open(target.parse().unwrap(), &[]);
            assert_eq!(open.err(), Some(Trouble::Forbidden), "{target}");
        }
    }

    #[test]
    fn each_trouble_stands_at_its_place_and_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Trouble::ALL.iter().map(|t| t.name()).collect();
        for (place, trouble) in Trouble::ALL.iter().enumerate() {
            assert_eq!(*trouble as usize, place);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Trouble::ALL.len());
    }
}
