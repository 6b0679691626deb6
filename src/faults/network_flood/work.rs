//! What one thread of a flood does at each tick, by mode.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::books::Cause;
use super::dial::Dialer;
use super::files;
use super::pace::Bucket;
use super::wire::{Ask, Socket, Trouble, ready};
use super::{Settings, Shared, level};

/// The connections of one thread. Dropping it resets them all.
pub(super) trait Work: Send {
    /// Does a part of what is due, without waiting; says whether more is due at once. Comes back
    /// soon after the term is over.
    fn tick(&mut self, shared: &Shared) -> bool;
}

/// How many connections are made between two looks into the ledger, at the most.
const BATCH: usize = 32;

/// Makes connections at a rate and ends each at once.
pub(super) struct Connects(pub(super) Dialer);

impl Work for Connects {
    fn tick(&mut self, shared: &Shared) -> bool {
        let most = self.0.room().min(BATCH);
        let granted = shared.books().pace().map_or(0, |pace| pace.take(most as u64)) as usize;
        let (dialed, mut troubles) = self.0.dial(granted, &shared.term);
        // Those that the machine had nothing left for are no attempts, and are due again.
        let at_once = troubles.iter().filter(|t| !unmade(**t)).count();
        let (made, failed) = self.0.reap();
        let (done, failures) = (made.len() as u64, (at_once + failed.len()) as u64);
        drop(made);
        troubles.extend(failed);
        let mut books = shared.books();
        if let Some(pace) = books.pace() {
            pace.settle(done, failures, (granted - dialed) as u64);
        }
        books.trouble(&troubles);
        if self.0.room() == 0 {
            books.blame(Cause::Unanswered);
        }
        granted == BATCH && dialed == granted
    }
}

/// Whether this trouble means that no attempt was made.
fn unmade(trouble: Trouble) -> bool {
    trouble.scarce() || trouble == Trouble::Forbidden
}

/// Holds connections.
pub(super) struct Holds {
    index: usize,
    dialer: Dialer,
    held: Vec<Socket>,
    bucket: Bucket,
    files: files::Watch,
    /// When to look next whether those that are held still live.
    look: Instant,
}

/// How often a thread looks whether what it holds still lives: 20 000 connections cost 2 ms.
const LOOK: Duration = Duration::from_millis(100);

impl Holds {
    /// Thread `index`.
    pub(super) fn new(index: usize, dialer: Dialer, settings: &Settings) -> Holds {
        let bucket = Bucket::new(settings.open_per_second / settings.threads as f64);
        let (held, look) = (Vec::new(), Instant::now());
        Holds { index, dialer, held, bucket, files: files::Watch::default(), look }
    }

    /// Lets go of what the other side has ended.
    fn bury(&mut self) -> Vec<Trouble> {
        if Instant::now() < self.look {
            return Vec::new();
        }
        self.look = Instant::now() + LOOK;
        let mut ended = ready(self.held.iter(), Ask::Ended).into_iter();
        let before = self.held.len();
        self.held.retain(|_| !ended.next().unwrap_or(false));
        vec![Trouble::Reset; before - self.held.len()]
    }

    /// How many to hold: what is asked for, but for the files that are to stay free.
    fn wanted(&mut self, shared: &Shared) -> usize {
        let all = shared.open_files();
        let (room, now) = self.files.room(all);
        let mut books = shared.books();
        let Some(level) = books.level() else { return 0 };
        let wanted = level.share(self.index, now);
        if level.share(self.index, room.left) < level.share(self.index, usize::MAX) {
            books.blame(Cause::Files(room.limit, room.left));
        }
        wanted
    }
}

impl Work for Holds {
    fn tick(&mut self, shared: &Shared) -> bool {
        let mut troubles = self.bury();
        let (made, failed) = self.dialer.reap();
        self.held.extend(made);
        troubles.extend(failed);
        let wanted = self.wanted(shared);
        while self.held.len() > wanted && shared.term.over().is_none() {
            self.held.pop();
        }
        let missing = wanted.saturating_sub(self.held.len() + self.dialer.pending());
        let may = self.bucket.fill(shared.elapsed());
        let (dialed, at_once) = self.dialer.dial(missing.min(may), &shared.term);
        self.bucket.take(dialed);
        self.files.opened(dialed);
        troubles.extend(at_once);
        // On this machine most are decided by now.
        let (made, failed) = self.dialer.reap();
        self.held.extend(made);
        troubles.extend(failed);
        shared.holds(self.index, self.held.len() + self.dialer.pending());
        let mut books = shared.books();
        if let Some(level) = books.level() {
            level.hold(self.index, self.held.len());
        }
        books.trouble(&troubles);
        if missing > 0 && self.dialer.room() == 0 {
            books.blame(Cause::Unanswered);
        } else if missing > may {
            books.suspect(Cause::Opening);
        }
        false // the bucket fills with time
    }
}

/// Sends bytes at a rate over some connections.
pub(super) struct Sends {
    dialer: Dialer,
    /// How many connections there should be.
    flows: usize,
    /// Those there are, the next to send over first.
    up: VecDeque<Socket>,
    /// When to make those that are missing.
    again: Instant,
}

/// The most and the least that is sent at once: few calls, and many turns among the connections.
const CHUNK: (usize, usize) = (4 << 10, 256 << 10);
/// How long a connection that ended stays away: bounds what a target that ends each one costs.
const AGAIN: Duration = Duration::from_millis(20);

static FILLER: [u8; CHUNK.1] = [0; CHUNK.1];

impl Sends {
    /// Thread `index`.
    pub(super) fn new(index: usize, dialer: Dialer, settings: &Settings) -> Sends {
        let flows = level::share(settings.flows, index, settings.threads);
        Sends { dialer, flows, up: VecDeque::new(), again: Instant::now() }
    }

    /// Makes the connections that are missing.
    fn connect(&mut self, shared: &Shared) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let missing = self.flows - self.up.len() - self.dialer.pending();
        if missing > 0 && Instant::now() >= self.again {
            self.again = Instant::now() + AGAIN;
            troubles = self.dialer.dial(missing, &shared.term).1;
        }
        let (made, failed) = self.dialer.reap();
        self.up.extend(made);
        troubles.extend(failed);
        troubles
    }

    /// Sends up to so many bytes; says how many the kernel took, and what went wrong.
    fn send(&mut self, bytes: usize, shared: &Shared) -> (usize, Vec<Trouble>) {
        let (mut left, mut full, mut troubles) = (bytes, 0, Vec::new());
        let chunk = (bytes / self.flows.max(1)).clamp(CHUNK.0, CHUNK.1);
        // Until each connection in turn has no room left.
        while left > 0 && full < self.up.len() && shared.term.over().is_none() {
            let Some(flow) = self.up.pop_front() else { break };
            match flow.send(&FILLER[..chunk.min(left)]) {
                Ok(0) => full += 1,
                Ok(taken) => {
                    left -= taken;
                    full = 0;
                }
                Err(trouble) => {
                    troubles.push(trouble);
                    self.again = Instant::now() + AGAIN;
                    continue;
                }
            }
            self.up.push_back(flow);
        }
        (bytes - left, troubles)
    }
}

impl Work for Sends {
    fn tick(&mut self, shared: &Shared) -> bool {
        let mut troubles = self.connect(shared);
        let most = self.up.len() * CHUNK.1;
        let granted = shared.books().pace().map_or(0, |pace| pace.take(most as u64)) as usize;
        let (sent, failed) = self.send(granted, shared);
        troubles.extend(failed);
        let mut books = shared.books();
        if let Some(pace) = books.pace() {
            pace.settle(sent as u64, 0, (granted - sent) as u64);
        }
        books.trouble(&troubles);
        if sent < granted && !self.up.is_empty() {
            books.hint(Cause::Unread);
        }
        most > 0 && granted == most && sent == granted
    }
}
