//! Attempts to connect that are under way: a bounded number, none waited for (FLOOD-2).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::super::term::{End, Term};
use super::wire::{Ask, Socket, Trouble, ready};

/// How long an attempt may take (judgement): many times what one takes in a cluster, but less than
/// the first repetition of a SYN (1 s), so that one that was dropped soon makes room for a new one.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long nothing is tried when the machine has run out of files, ports or memory.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Makes connections to some targets in turn.
#[derive(Debug)]
pub(super) struct Dialer {
    targets: Vec<SocketAddr>,
    allowed: Vec<IpAddr>,
    next: usize,
    most: usize,
    /// Oldest first.
    pending: Vec<(Socket, Instant)>,
    resume: Option<Instant>,
}

impl Dialer {
    /// With at most so many attempts under way; `first` says with which target to begin.
    pub(super) fn new(
        targets: Vec<SocketAddr>,
        allowed: Vec<IpAddr>,
        most: usize,
        first: usize,
    ) -> Dialer {
        Dialer { targets, allowed, next: first, most, pending: Vec::new(), resume: None }
    }

    /// How many attempts are under way.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many more there may be now.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.pending.len())
    }

    /// Whether it waits before it tries again.
    pub(super) fn resting(&self) -> bool {
        self.resume.is_some_and(|at| Instant::now() < at)
    }

    /// Begins up to so many attempts, as long as the term lasts; says how many it made, those that
    /// failed at once included, and what went wrong. What the machine had nothing left for is no
    /// attempt: it was not made.
    pub(super) fn dial(&mut self, n: usize, term: &Term) -> (usize, Vec<Trouble>) {
        let (mut made, mut troubles) = (0, Vec::new());
        let most = if self.resting() { 0 } else { n.min(self.room()) };
        while made < most && term.over().is_none() {
            let target = self.targets[self.next % self.targets.len()];
            match Socket::open(target, &self.allowed) {
                Ok(socket) => self.pending.push((socket, Instant::now())),
                Err(trouble) => {
                    troubles.push(trouble);
                    if trouble == Trouble::Forbidden {
                        term.end(End::Guard); // FLOOD-1
                    }
                    if trouble.scarce() || trouble == Trouble::Forbidden {
                        self.resume = Some(Instant::now() + BACK_OFF);
                        break;
                    }
                }
            }
            made += 1;
            self.next = self.next.wrapping_add(1);
        }
        (made, troubles)
    }

    /// The attempts that are decided: connections, and what went wrong.
    pub(super) fn reap(&mut self) -> (Vec<Socket>, Vec<Trouble>) {
        let (mut made, mut troubles) = (Vec::new(), Vec::new());
        let decided = ready(self.pending.iter().map(|(socket, _)| socket), Ask::Decided);
        let now = Instant::now();
        let pending = std::mem::take(&mut self.pending);
        for ((socket, since), decided) in pending.into_iter().zip(decided) {
            if decided {
                match socket.failed() {
                    Some(trouble) => troubles.push(trouble),
                    None => made.push(socket),
                }
            } else if now >= since + PATIENCE {
                troubles.push(Trouble::TimedOut);
            } else {
                self.pending.push((socket, since));
            }
        }
        (made, troubles)
    }
}
