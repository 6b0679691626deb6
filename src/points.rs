//! For tests: named places at which this process may be made to die as by kill -9 (crash points),
//! and promises that it may be made to break (mutants).
//!
//! `MOCKS3TEST_CRASH=applied:3` in the environment arms one of them: the process dies when it comes
//! to that place for the third time. `tests/points` has a scene for each. `MOCKS3TEST_MUTANT` names
//! a promise to break, so that it can be shown that the checks of the tests see it.
//!
//! - `POINT-1` a point that is not armed, or a mutant that is not chosen, costs one relaxed load;
//! - `POINT-2` at most one of each is armed, from the start of the process to its end.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Arms a point: its name, and after a colon at which visit to die (1: the first).
pub const CRASH: &str = "MOCKS3TEST_CRASH";
/// Chooses a mutant by its name.
pub const MUTANT: &str = "MOCKS3TEST_MUTANT";
/// Two numbers, `60,20`: after how many entries a log is let go of, and how many of them are kept.
pub const LOG: &str = "MOCKS3TEST_LOG";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place at which a process may be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[$doc])* $point,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// Its name in the environment.
            pub fn name(self) -> &'static str {
                match self {
                    $(Point::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// A storage node has an item on disk; its index does not know yet, nor anybody else.
    BlobDurable = "blob-durable",
    /// An edge knows that enough nodes have the data; nothing is committed.
    Stored = "stored",
    /// A batch of commands was handed to openraft.
    Proposed = "proposed",
    /// Entries are on the own disk; openraft has not heard, nor has any other replica.
    Logged = "logged",
    /// Entries are committed; the machine has not seen them.
    Committed = "committed",
    /// Entries are applied; nobody was told what came of them.
    Applied = "applied",
    /// The actor is about to tell what came of a command.
    ActorAnswers = "actor-answers",
    /// An edge knows what came of a command; its client does not.
    EdgeAnswers = "edge-answers",
    /// An edge is about to abort data that came to nothing.
    Aborting = "aborting",
    /// The queue has taken tasks out of the outbox; metadata has not heard.
    Relayed = "relayed",
    /// A task was executed; the queue has not heard.
    Executed = "executed",
    /// All that was applied is on disk; openraft has not heard, so the log is still whole.
    Synced = "synced",
    /// Entries are taken out of the log, in a transaction that has not ended.
    Purging = "purging",
    /// An image for another replica was written; it is not on its way.
    ImageMade = "image-made",
    /// A piece of a fetched image was written; whether it is whole was not seen yet.
    ImagePart = "image-part",
    /// A whole image was fetched; it is not installed.
    ImageReceived = "image-received",
    /// The machine is that of the image; openraft has not heard, and the log is the old one.
    ImageTaken = "image-taken",
    /// Compaction has copied records; the index still points to the originals.
    Copied = "copied",
    /// Compaction has removed the hint of a segment, and not yet the segment.
    Removing = "removing",
}

/// A promise that a test may have broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A replica answers questions from what it happens to have applied.
    ReadWithoutBarrier,
    /// What is deleted leaves no task for its data.
    DeleteWithoutOutbox,
    /// A storage node says that it has an item, and writes it later.
    AckBeforeDurable,
    /// One copy of an object is enough.
    WriteQuorumOne,
    /// What a third party served is saved whatever became of the key.
    SaveOverAnything,
    /// An edge that did not learn what came of a commit deletes the data at once.
    CleanupBeforeAbort,
}

impl Mutant {
    const ALL: [Mutant; 6] = [
        Mutant::ReadWithoutBarrier,
        Mutant::DeleteWithoutOutbox,
        Mutant::AckBeforeDurable,
        Mutant::WriteQuorumOne,
        Mutant::SaveOverAnything,
        Mutant::CleanupBeforeAbort,
    ];

    /// Its name in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::ReadWithoutBarrier => "read-without-barrier",
            Mutant::DeleteWithoutOutbox => "delete-without-outbox",
            Mutant::AckBeforeDurable => "ack-before-durable",
            Mutant::WriteQuorumOne => "write-quorum-one",
            Mutant::SaveOverAnything => "save-over-anything",
            Mutant::CleanupBeforeAbort => "cleanup-before-abort",
        }
    }
}

/// No point and no mutant has this number.
const NONE: u8 = u8::MAX;
static ARMED: AtomicU8 = AtomicU8::new(NONE);
static CHOSEN: AtomicU8 = AtomicU8::new(NONE);
/// How many visits are left.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Arms what the environment names, if anything. Called once, before anything else. A name that
/// nothing has ends the process: the test would wait for nothing.
pub fn arm() {
    if let Some((point, visits)) = named(CRASH, parse) {
        LEFT.store(visits, Ordering::Relaxed);
        ARMED.store(point as u8, Ordering::Relaxed);
    }
    let mutant = |name: &str| Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    if let Some(mutant) = named(MUTANT, mutant) {
        CHOSEN.store(mutant as u8, Ordering::Relaxed);
    }
}

fn named<T>(variable: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    let found = find(&text);
    if found.is_none() {
        eprintln!("mocks3: {variable}={text}: there is no such thing");
        std::process::exit(2);
    }
    found
}

fn parse(text: &str) -> Option<(Point, u64)> {
    let (name, visits) = match text.split_once(':') {
        Some((name, visits)) => (name, visits.parse().ok().filter(|visits| *visits > 0)?),
        None => (text, 1),
    };
    let point = Point::ALL.iter().copied().find(|point| point.name() == name)?;
    Some((point, visits))
}

/// The process comes to a point.
#[inline]
pub fn at(point: Point) {
    if ARMED.load(Ordering::Relaxed) == point as u8 {
        visit(point);
    }
}

/// Whether a promise is to be broken.
#[inline]
pub fn breaks(mutant: Mutant) -> bool {
    CHOSEN.load(Ordering::Relaxed) == mutant as u8
}

#[cold]
fn visit(point: Point) {
    if LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("{}", mark(point));
        let _ = kill(Pid::this(), Signal::SIGKILL); // nothing unwinds, nothing is flushed
        loop {
            std::thread::park(); // it has been sent
        }
    }
}

/// What a process that dies at a point leaves in its log.
pub fn mark(point: Point) -> String {
    format!("crash point {} reached", point.name())
}

/// How long logs are, where the environment says so: after how many entries the machine is synced,
/// and how many entries before that are kept.
pub fn log_lengths() -> Option<(u64, u64)> {
    let text = std::env::var(LOG).ok()?;
    let (sync_every, keep) = text.split_once(',')?;
    Some((sync_every.parse().ok()?, keep.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_armed_by_its_name_and_the_visit() {
        for point in Point::ALL.iter().copied() {
            assert_eq!(parse(point.name()), Some((point, 1)));
            assert_eq!(parse(&format!("{}:7", point.name())), Some((point, 7)));
            assert_ne!(point as u8, NONE);
        }
        for text in ["", "nothing", "applied:", "applied:0", "applied:x", ":1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
