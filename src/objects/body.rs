//! A body on its way in: the client's stream, what was said about it, and its check while it
//! passes.
//!
//! Made by the S3 edge (and by copies, from a read); taken by the write flow.
//!
//! - `BODY-1` [`Intake::finish`] succeeds only for a body that came whole and matches everything
//!   that was said about it;
//! - `BODY-2` chunks are at most [`CHUNK_BYTES`], and at least that but for the last.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};

use crate::actors::metadata::model::ChecksumAlgorithm;

use super::digest::{Digests, Sums};
use super::error::BodyError;

/// The size of the chunks that go to the storage nodes, in bytes.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// The largest body of one PUT, in bytes (S3: 5 GiB).
pub const MAX_PUT_BYTES: u64 = 5 << 30;

/// The bytes as they come.
pub type Upload = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Gives the checksum that came behind the body, once the body has ended.
pub type Trailer = Box<dyn FnOnce() -> Result<Option<String>, BodyError> + Send>;

/// Where the expected checksum stands.
#[derive(Default)]
pub enum ExpectedChecksum {
    /// The client gave none.
    #[default]
    None,
    /// In a header: base64.
    Value(String),
    /// In a trailer.
    Trailer(Trailer),
}

/// What was said about a body.
#[derive(Default)]
pub struct Expect {
    /// Its length.
    pub len: Option<u64>,
    /// Its MD5.
    pub md5: Option<[u8; 16]>,
    /// The checksum to compute.
    pub algorithm: Option<ChecksumAlgorithm>,
    /// The checksum to find.
    pub checksum: ExpectedChecksum,
}

/// A body being read: cuts it into chunks and computes its checksums.
pub struct Intake {
    upload: Upload,
    expect: Expect,
    digests: Digests,
    /// A piece that came whole, and is copied only when another one follows.
    single: Bytes,
    buffer: BytesMut,
    client_limit: Duration,
    ended: bool,
}

impl Intake {
    /// Begins to read; a client that sends nothing for `client_limit` is given up.
    pub fn new(upload: Upload, expect: Expect, client_limit: Duration) -> Self {
        let digests = Digests::new(expect.algorithm);
        let (single, buffer) = (Bytes::new(), BytesMut::new());
        Intake { upload, expect, digests, single, buffer, client_limit, ended: false }
    }

    /// The length, where it was declared.
    pub fn declared_len(&self) -> Option<u64> {
        self.expect.len
    }

    /// The next chunk, or `None` at the end of the body.
    ///
    /// # Errors
    /// The body broke off, stalled or is too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        while self.waiting() < CHUNK_BYTES && !self.ended {
            let next = tokio::time::timeout(self.client_limit, self.upload.next()).await;
            match next.map_err(|_| BodyError::Timeout)? {
                Some(bytes) => self.take(bytes?)?,
                None => self.ended = true,
            }
        }
        let chunk = match self.single.is_empty() {
            true => self.buffer.split_to(self.buffer.len().min(CHUNK_BYTES)).freeze(),
            false => self.single.split_to(self.single.len().min(CHUNK_BYTES)),
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        self.digests.update(&chunk);
        Ok(Some(chunk))
    }

    /// Bytes that came and were not given out.
    fn waiting(&self) -> usize {
        self.single.len() + self.buffer.len() // one of them is empty
    }

    fn take(&mut self, bytes: Bytes) -> Result<(), BodyError> {
        let got = self.digests.len() + (self.waiting() + bytes.len()) as u64;
        if let Some(declared) = self.expect.len.filter(|&declared| got > declared) {
            return Err(BodyError::Length { got, declared });
        }
        if got > MAX_PUT_BYTES {
            return Err(BodyError::TooLarge { limit: MAX_PUT_BYTES });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if self.waiting() == 0 {
            self.single = bytes;
            return Ok(());
        }
        let first = std::mem::take(&mut self.single);
        let more = first.len() + bytes.len();
        if self.buffer.capacity() - self.buffer.len() < more {
            let declared = self.expect.len.unwrap_or(u64::MAX) - self.digests.len();
            let chunk = declared.min(CHUNK_BYTES as u64) as usize;
            self.buffer.reserve(chunk.saturating_sub(self.buffer.len()).max(more));
        }
        self.buffer.extend_from_slice(&first);
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }

    /// The checksums, once [`Intake::chunk`] has said `None`.
    ///
    /// # Errors
    /// The body is not what was said about it (BODY-1).
    pub fn finish(self) -> Result<Sums, BodyError> {
        debug_assert!(self.ended && self.waiting() == 0, "the body was read to its end");
        let sums = self.digests.finish();
        if let Some(declared) = self.expect.len.filter(|&declared| declared != sums.len) {
            return Err(BodyError::Length { got: sums.len, declared });
        }
        if self.expect.md5.is_some_and(|md5| md5 != sums.md5) {
            return Err(BodyError::Md5);
        }
        let expected = match self.expect.checksum {
            ExpectedChecksum::None => None,
            ExpectedChecksum::Value(value) => Some(value),
            ExpectedChecksum::Trailer(trailer) => trailer()?,
        };
        match (&sums.checksum, expected) {
            (Some(found), Some(expected)) if found.value != expected => {
                Err(BodyError::Checksum(name(found.algorithm)))
            }
            _ => Ok(sums),
        }
    }
}

/// The name of an algorithm in S3.
pub fn name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "CRC32",
        ChecksumAlgorithm::Crc32c => "CRC32C",
        ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
        ChecksumAlgorithm::Sha1 => "SHA1",
        ChecksumAlgorithm::Sha256 => "SHA256",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(pieces: Vec<Result<&'static [u8], BodyError>>, expect: Expect) -> Intake {
        let pieces = pieces.into_iter().map(|p| p.map(Bytes::from_static));
        let upload = Box::pin(futures::stream::iter(pieces.collect::<Vec<_>>()));
        Intake::new(upload, expect, Duration::from_secs(1))
    }

    async fn drain(mut intake: Intake) -> Result<(Vec<usize>, Sums), BodyError> {
        let mut sizes = Vec::new();
        while let Some(chunk) = intake.chunk().await? {
            sizes.push(chunk.len());
        }
        Ok((sizes, intake.finish()?))
    }

    #[tokio::test]
    async fn small_pieces_become_whole_chunks() {
        const PIECE: &[u8] = &[7; 100_000];
        let (sizes, sums) = drain(intake(vec![Ok(PIECE); 6], Expect::default())).await.unwrap();
        assert_eq!(sizes, [CHUNK_BYTES, CHUNK_BYTES, 600_000 - 2 * CHUNK_BYTES]); // BODY-2
        assert_eq!((sums.len, sums.md5), (600_000, md5::compute(vec![7; 600_000]).0));
        let (sizes, sums) = drain(intake(vec![], Expect::default())).await.unwrap();
        assert_eq!((sizes.len(), sums.len), (0, 0));
    }

    #[tokio::test]
    async fn pieces_of_any_size_keep_their_order_and_one_alone_is_not_copied() {
        let whole: &'static [u8] =
            (0..1_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().leak();
        for cuts in [vec![1_000_000], vec![400_000, 900_000], vec![3, 300_000, 300_001, 999_999]] {
            let ends = cuts.iter().copied().chain([1_000_000]);
            let starts = std::iter::once(0).chain(cuts.iter().copied());
            let pieces = starts.zip(ends).map(|(from, to)| Ok(&whole[from..to])).collect();
            let mut intake = intake(pieces, Expect { len: Some(1_000_000), ..Expect::default() });
            let mut all = Vec::new();
            while let Some(chunk) = intake.chunk().await.unwrap() {
                let copied = chunk.as_ptr() != whole[all.len()..].as_ptr();
                assert_eq!(copied, all.len() + chunk.len() > cuts[0], "{cuts:?}");
                all.extend_from_slice(&chunk);
            }
            assert!(all == whole && intake.finish().is_ok(), "{cuts:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_as_declared_is_refused() {
        let crc = |value: &str| Expect {
            algorithm: Some(ChecksumAlgorithm::Crc32),
            checksum: ExpectedChecksum::Value(value.into()),
            ..Expect::default()
        };
        let trailer = |value: &'static str| Expect {
            algorithm: Some(ChecksumAlgorithm::Crc32),
            checksum: ExpectedChecksum::Trailer(Box::new(move || Ok(Some(value.into())))),
            ..Expect::default()
        };
        let len = |len| Expect { len: Some(len), ..Expect::default() };
        let md5 = |md5| Expect { md5: Some(md5), ..Expect::default() };
        let good = md5::compute(b"123456789").0;
        let rows = [
            (len(9), Ok(())),
            (len(8), Err(BodyError::Length { got: 9, declared: 8 })),
            (len(10), Err(BodyError::Length { got: 9, declared: 10 })),
            (md5(good), Ok(())),
            (md5([0; 16]), Err(BodyError::Md5)),
            (crc("y/Q5Jg=="), Ok(())),
            (crc("AAAAAA=="), Err(BodyError::Checksum("CRC32"))),
            (trailer("y/Q5Jg=="), Ok(())),
            (trailer("AAAAAA=="), Err(BodyError::Checksum("CRC32"))),
        ];
        for (i, (expect, expected)) in rows.into_iter().enumerate() {
            let got = drain(intake(vec![Ok(b"12345"), Ok(b"6789")], expect)).await;
            assert_eq!(got.map(|_| ()), expected, "row {i}");
        }
        let broken = BodyError::Broken("reset".into());
        let got = drain(intake(vec![Ok(b"1"), Err(broken.clone())], Expect::default())).await;
        assert_eq!(got.map(|_| ()), Err(broken));
    }
}
