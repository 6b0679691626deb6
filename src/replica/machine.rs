//! What is replicated: a deterministic state machine over its own disk.

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// One command with the key of its intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed<C> {
    /// The same for every retry of one intent: a machine applies it once. 0 = none.
    pub key: u128,
    /// What is to be done.
    pub command: C,
}

/// A deterministic state machine over its own disk.
///
/// The same commands at the same indexes give the same state and the same outcomes on every replica:
/// it reads no clock, no chance, no environment.
pub trait Machine: Send + 'static {
    /// What changes it.
    type Command: Serialize + DeserializeOwned + Send + 'static;
    /// What a command answers.
    type Outcome: Send + 'static;
    /// Why it could not go on.
    type Error: Display + Send + 'static;

    /// How many commands were applied; the index of the last one.
    fn applied(&self) -> u64;

    /// What was last given as `mark`; empty before the first.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn mark(&self) -> Result<Vec<u8>, Self::Error>;

    /// Applies commands from index `first` on and keeps `mark`, in one transaction. It need not be
    /// on disk when this returns: see [`Machine::sync`].
    ///
    /// # Errors
    /// Then the outcome is unknown, and the machine is opened anew.
    fn apply(
        &mut self,
        first: u64,
        commands: &[Keyed<Self::Command>],
        mark: &[u8],
    ) -> Result<Vec<Self::Outcome>, Self::Error>;

    /// Puts all that was applied on disk.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    fn sync(&mut self) -> Result<(), Self::Error>;

    /// Gives what writes the whole state as it is now or later, mark included, as one file: run
    /// while the machine goes on. It gives the mark that it wrote.
    ///
    /// # Errors
    /// When the disk cannot be read; so does the export.
    fn exporter(&self) -> Result<Export<Self::Error>, Self::Error>;

    /// Takes the state of an exported file in place of its own, all or nothing.
    ///
    /// # Errors
    /// As [`Machine::apply`].
    fn import(&mut self, from: &Path) -> Result<(), Self::Error>;

    /// Gives what reads the whole state as it is now or later and makes a [`Digest`] of it: run while
    /// the machine goes on.
    ///
    /// # Errors
    /// When the disk cannot be read; so does the reading.
    fn digester(&self) -> Result<Digester<Self::Error>, Self::Error>;

    /// Called when there is nothing to do.
    fn idle(&mut self) {}
}

/// What a whole state comes to: equal on replicas that applied the same commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Digest {
    /// The index of the last command that the state holds.
    pub applied: u64,
    /// MD5 over the state.
    pub md5: [u8; 16],
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:032x}", self.applied, u128::from_be_bytes(self.md5))
    }
}

/// Reads a whole state.
pub type Digester<E> = Box<dyn FnOnce() -> Result<Digest, E> + Send>;

/// Writes the state of a machine to a file.
pub type Export<E> = Box<dyn FnOnce(&Path) -> Result<Vec<u8>, E> + Send>;

/// The state of a machine on its way to another replica.
#[derive(Debug)]
pub enum Image {
    /// Not made yet: the sender exports its machine when it begins to send.
    Live,
    /// A file that was received.
    File(PathBuf),
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too many commands wait; this one was not taken.
    #[error("too many commands wait")]
    Overload,
    /// This replica does not lead; nothing was done. Who does, where that is known.
    #[error("not the leader")]
    NotLeader(Option<super::types::Peer>),
    /// The disk is full; nothing was done.
    #[error("no space left for the log")]
    NoSpace,
    /// No majority answers; nothing was done.
    #[error("no quorum")]
    NoQuorum,
    /// The command exceeds what an entry may hold; nothing was done.
    #[error("command of {0} bytes exceeds the limit of an entry")]
    TooLarge(usize),
    /// It was proposed and may yet be applied, or never.
    #[error("outcome unknown")]
    Unknown,
}

/// Where disk work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exec {
    /// On threads that may block.
    Blocking,
    /// At once, on the caller's thread: for a simulated disk.
    Inline,
}

impl Exec {
    /// Runs `work` and gives its result.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Exec::Inline => work(),
            Exec::Blocking => joined(tokio::task::spawn_blocking(work)).await,
        }
    }
}

async fn joined<T>(task: impl Future<Output = Result<T, tokio::task::JoinError>>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await, // the runtime ends
        },
    }
}
