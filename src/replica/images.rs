//! Images of machines on their way between replicas: offered here, fetched over the data plane.
//!
//! One plane a node, for all its groups, with a data server of its own. Files in, files out.
//!
//! - `IMG-1` an image is given to whoever was told its ticket, once, and only as a whole;
//! - `IMG-2` a fetched image has the length and the CRC-64/NVME that were announced, or is no image.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use crate::data::client::DataClient;
use crate::data::desk::{Desk, OpenDesk, TransferLimits};
use crate::data::store::{BlobStore, BlobWriter, Md5, Pieces};
use crate::data::ticket::Grant;
use crate::data::words::{StorageError, Ticket};
use crate::points::{self, Point};
use crate::types::DataId;

/// The size of the pieces of a file, in bytes.
const PIECE: usize = 1 << 20;

/// Where an image can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The permit.
    pub ticket: Ticket,
    /// Its name for the transfer.
    pub data_id: DataId,
    /// Its length in bytes.
    pub len: u64,
    /// Its CRC-64/NVME.
    pub crc64: u64,
}

/// Files that are offered.
#[derive(Default)]
struct Offered(Mutex<HashMap<DataId, PathBuf>>);

impl Offered {
    fn files(&self) -> MutexGuard<'_, HashMap<DataId, PathBuf>> {
        self.0.lock().expect("no panic while the table is held")
    }
}

/// The store that the data server sees: offered files, each to be read once.
struct OfferedStore(Arc<Offered>);

impl BlobStore for OfferedStore {
    fn writer(&self, _data_id: DataId, _md5: Md5) -> Result<Box<dyn BlobWriter>, StorageError> {
        Err(StorageError::Invalid("images are fetched, not sent".into()))
    }

    fn reader(&self, data_id: DataId, offset: u64, len: u64) -> Result<Pieces, StorageError> {
        let path = self.0.files().remove(&data_id).ok_or(StorageError::NotFound(data_id))?;
        let io = |e: std::io::Error| StorageError::Io(e.to_string());
        let mut file = File::open(path).map_err(io)?;
        if (offset, len) != (0, file.metadata().map_err(io)?.len()) {
            return Err(StorageError::Invalid("only whole images".into())); // IMG-1
        }
        Ok(Box::new(
            std::iter::from_fn(move || piece(&mut file).transpose()).map(move |p| p.map_err(io)),
        ))
    }
}

/// The next piece of a file; none at its end.
fn piece(file: &mut File) -> std::io::Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(PIECE);
    file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then(|| piece.into()))
}

/// The images of one node.
pub struct ImagePlane {
    offered: Arc<Offered>,
    desk: OpenDesk,
    client: DataClient,
}

/// An image on offer, until this is dropped.
pub struct Offer {
    offered: Arc<Offered>,
    /// Where it can be fetched.
    pub source: ImageSource,
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.offered.files().remove(&self.source.data_id);
    }
}

impl ImagePlane {
    /// A plane whose data server finds it at `desk`, and is reached at `address` (`host:port`).
    pub fn new(desk: &Arc<Desk>, address: String, client: DataClient) -> Self {
        let offered = Arc::<Offered>::default();
        let store = Arc::new(OfferedStore(offered.clone()));
        ImagePlane { desk: desk.open(address, store, TransferLimits::default()), offered, client }
    }

    /// Offers a file. Reads it once, for its checksum.
    ///
    /// # Errors
    /// When it cannot be read, or too many are on offer.
    pub async fn offer(&self, path: PathBuf) -> Result<Offer, ImageError> {
        let of = path.clone();
        let (len, crc64) = tokio::task::spawn_blocking(move || measure(&of)).await??;
        let data_id = DataId::new();
        self.offered.files().insert(data_id, path);
        let grant = Grant::Read { data_id, offset: 0, len };
        let ticket = self.desk.transfers().grant(grant);
        let ticket = ticket.inspect_err(|_| drop(self.offered.files().remove(&data_id)))?;
        let source = ImageSource { ticket, data_id, len, crc64 };
        Ok(Offer { offered: self.offered.clone(), source })
    }

    /// Fetches an image to a file (IMG-2).
    ///
    /// # Errors
    /// Then what is in the file is worth nothing.
    pub async fn fetch(&self, source: &ImageSource, to: &Path) -> Result<(), ImageError> {
        let mut file = tokio::fs::File::create(to).await?;
        let mut crc = digest();
        let mut len = 0;
        if source.len > 0 {
            let mut download = self.client.get(&source.ticket, source.data_id).await?;
            while let Some(piece) = download.next().await {
                let piece = piece?;
                crc.update(&piece);
                len += piece.len() as u64;
                file.write_all(&piece).await?;
                points::at(Point::ImagePart);
            }
        }
        file.flush().await?;
        match (len, crc.finalize()) == (source.len, source.crc64) {
            true => Ok(()),
            false => Err(ImageError::Other("the image came with other bytes".into())),
        }
    }
}

fn digest() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme)
}

/// The length of a file in bytes, and its CRC-64/NVME.
///
/// # Errors
/// When it cannot be read.
pub fn measure(path: &Path) -> std::io::Result<(u64, u64)> {
    let (mut file, mut crc, mut len) = (File::open(path)?, digest(), 0);
    while let Some(piece) = piece(&mut file)? {
        crc.update(&piece);
        len += piece.len() as u64;
    }
    Ok((len, crc.finalize()))
}

/// Why an image did not come over.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The own disk would not.
    #[error("image file: {0}")]
    Io(#[from] std::io::Error),
    /// Too much is on its way.
    #[error("image: {0}")]
    Refused(#[from] StorageError),
    /// The transfer broke.
    #[error("image: {0}")]
    Transfer(#[from] crate::data::client::TransferError),
    /// Anything else.
    #[error("image: {0}")]
    Other(String),
}

impl From<tokio::task::JoinError> for ImageError {
    fn from(error: tokio::task::JoinError) -> Self {
        ImageError::Other(error.to_string())
    }
}
