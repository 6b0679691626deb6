//! The barrier in front of reads: all that wait share one question to the leader.
//!
//! - `READ-1` a barrier that serves a read was begun after that read had arrived;
//! - `READ-2` every read is let through or refused within its limit.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a read waits for its barrier.
pub const LIMIT: Duration = Duration::from_millis(1500);
/// How many reads may wait.
const QUEUE: usize = 8192;

/// Why a read may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too many reads wait.
    #[error("too many reads wait")]
    Overload,
    /// No leader is known, or it does not hear a majority, or this replica is too far behind.
    #[error("no leader with a quorum answers")]
    Unavailable,
}

type Waiter = oneshot::Sender<Result<(), ReadError>>;

/// The way to the barrier. Cheap to clone.
#[derive(Clone)]
pub struct Reads(mpsc::Sender<Waiter>);

impl Reads {
    /// A barrier that asks `ask` once for all that wait; the future is to be run.
    pub fn new<F>(ask: impl FnMut() -> F + Send) -> (Reads, impl Future<Output = ()> + Send)
    where
        F: Future<Output = Result<(), ReadError>> + Send,
    {
        let (tx, rx) = mpsc::channel(QUEUE);
        (Reads(tx), serve(rx, ask))
    }

    /// Waits until a read sees all that was answered before now.
    ///
    /// # Errors
    /// [`ReadError`], within [`LIMIT`].
    pub async fn pass(&self) -> Result<(), ReadError> {
        let (tx, rx) = oneshot::channel();
        self.0.try_send(tx).map_err(|_| ReadError::Overload)?;
        let passed = tokio::time::timeout(LIMIT, rx).await; // READ-2
        passed.unwrap_or(Ok(Err(ReadError::Unavailable))).unwrap_or(Err(ReadError::Unavailable))
    }
}

async fn serve<F>(mut waiting: mpsc::Receiver<Waiter>, mut ask: impl FnMut() -> F + Send)
where
    F: Future<Output = Result<(), ReadError>> + Send,
{
    let mut served = Vec::new();
    while waiting.recv_many(&mut served, QUEUE).await > 0 {
        let answer = ask().await; // READ-1: all of `served` had arrived before
        for waiter in served.drain(..) {
            let _ = waiter.send(answer); // it may have stopped waiting
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn reads_that_wait_together_share_one_barrier_that_began_after_them() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let (reads, run) = Reads::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(())
            }
        });
        tokio::spawn(run);
        let first = tokio::spawn({
            let reads = reads.clone();
            async move { reads.pass().await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await; // its barrier has begun
        let others = futures::future::join_all((0..100).map(|_| reads.pass())).await;
        assert!(others.into_iter().all(|passed| passed == Ok(())));
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_is_refused_in_time_when_the_leader_does_not_answer() {
        let (reads, run) = Reads::new(std::future::pending);
        tokio::spawn(run);
        let begun = tokio::time::Instant::now();
        assert_eq!(reads.pass().await, Err(ReadError::Unavailable));
        assert!(begun.elapsed() <= LIMIT + Duration::from_millis(1));
    }
}
