//! Taking a body from a source: into memory, onto the spool, or on to whoever waits for it.
//!
//! Used by `fetch.rs`. Every body passes a [`Verifier`].

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::sync::mpsc;

use super::spool::{Spool, SpoolFile};
use super::verify::{Verifier, Wrong};

/// The size of the pieces that go on, in bytes.
const PIECE: usize = 128 * 1024;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The source broke off or stood still.
    #[error("{0}")]
    Broken(#[from] reqwest::Error),
    /// It is not what it should be.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// The own disk would not.
    #[error("spool: {0}")]
    Spool(#[from] io::Error),
    /// Whoever waited went away.
    #[error("nobody waits for the body any more")]
    Gone,
}

/// A body that was found right.
pub struct Taken<T> {
    /// Its bytes.
    pub body: T,
    /// How many.
    pub size: u64,
    /// Their MD5.
    pub md5: [u8; 16],
}

/// The next piece: at least [`PIECE`] bytes, but for the last; `None` at the end.
async fn piece(response: &mut Response) -> Result<Option<Bytes>, reqwest::Error> {
    let Some(first) = response.chunk().await? else { return Ok(None) };
    if first.len() >= PIECE {
        return Ok(Some(first));
    }
    let mut piece = BytesMut::from(&first[..]);
    while piece.len() < PIECE {
        match response.chunk().await? {
            Some(more) => piece.extend_from_slice(&more),
            None => break,
        }
    }
    Ok(Some(piece.freeze()))
}

/// Takes a body into memory; the caller knows that it is small.
///
/// # Errors
/// See [`TakeError`].
pub async fn keep(
    mut response: Response,
    mut verifier: Verifier,
) -> Result<Taken<Bytes>, TakeError> {
    let mut all = BytesMut::new();
    while let Some(piece) = piece(&mut response).await? {
        all.extend_from_slice(&verifier.push(piece)?.unwrap_or_default());
    }
    let (last, size, md5) = verifier.finish()?;
    all.extend_from_slice(&last.unwrap_or_default());
    Ok(Taken { body: all.freeze(), size, md5 })
}

/// Takes a body onto disk.
///
/// # Errors
/// See [`TakeError`].
pub async fn spool(
    mut response: Response,
    mut verifier: Verifier,
    spool: &Arc<Spool>,
) -> Result<Taken<SpoolFile>, TakeError> {
    let spool = spool.clone();
    let mut file = blocking(move || spool.file()).await?;
    while let Some(piece) = piece(&mut response).await? {
        if let Some(piece) = verifier.push(piece)? {
            file = write(file, piece).await?;
        }
    }
    let (last, size, md5) = verifier.finish()?;
    if let Some(piece) = last {
        file = write(file, piece).await?;
    }
    Ok(Taken { body: file, size, md5 })
}

async fn write(mut file: SpoolFile, piece: Bytes) -> io::Result<SpoolFile> {
    blocking(move || file.write(&piece).map(|()| file)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// Hands a body on as it comes; says an error down the channel too, so that the stream never ends
/// well with a wrong body.
///
/// # Errors
/// See [`TakeError`].
pub async fn pump(
    mut response: Response,
    mut verifier: Verifier,
    to: mpsc::Sender<Result<Bytes, String>>,
) -> Result<(), TakeError> {
    let run = async {
        while let Some(piece) = piece(&mut response).await? {
            if let Some(piece) = verifier.push(piece)? {
                to.send(Ok(piece)).await.map_err(|_| TakeError::Gone)?;
            }
        }
        if let (Some(last), ..) = verifier.finish()? {
            to.send(Ok(last)).await.map_err(|_| TakeError::Gone)?;
        }
        Ok(())
    };
    let done: Result<(), TakeError> = run.await;
    if let Err(error) = &done {
        let _ = to.send(Err(error.to_string())).await; // gone: nobody to tell
    }
    done
}
