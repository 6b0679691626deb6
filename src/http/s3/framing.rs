//! The framing of chunked uploads (`aws-chunked`), watched on its way to `s3s`, which decodes it.
//!
//! `s3s` takes the end of the connection for the end of the body, and holds a whole chunk in memory
//! whatever its size. The core here is a plain state machine over the bytes; [`Framed`] is the body
//! around it. Source: the S3 pages on chunked uploads and on trailing checksums.
//!
//! - `CHUNK-1` a body that ends before its last chunk (of size 0) is an error;
//! - `CHUNK-2` of one chunk at most [`MAX_SIGNED_CHUNK`] bytes are held: unsigned chunks are cut into
//!   as many as come in, signed ones (whose signature is over the whole) may not be larger.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Frame;

/// The largest chunk with a signature, in bytes.
pub const MAX_SIGNED_CHUNK: u64 = 8 << 20;
/// The longest line that begins a chunk, in bytes.
const MAX_LINE: usize = 1024;
/// The most bytes behind the last chunk.
const MAX_TRAILER: u64 = 16 << 10;

/// How the payload of a request is framed, by its `x-amz-content-sha256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each chunk carries a signature.
    Signed,
    /// Plain chunks and a trailer.
    Unsigned,
}

/// The framing that the headers announce.
pub fn kind(headers: &HeaderMap) -> Option<Kind> {
    let value = headers.get("x-amz-content-sha256")?.as_bytes();
    match value {
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Some(Kind::Unsigned),
        value => value.starts_with(b"STREAMING-").then_some(Kind::Signed),
    }
}

/// The length of the body without its framing, where the body is framed.
pub fn decoded_len(headers: &HeaderMap) -> Option<u64> {
    kind(headers)?;
    headers.get("x-amz-decoded-content-length")?.to_str().ok()?.parse().ok()
}

/// What is wrong with the framing; the texts are told apart by [`upload`](super::upload).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// It broke off (CHUNK-1).
    #[error("the chunked body ended before its last chunk")]
    Incomplete,
    /// It is no framing.
    #[error("FormatError: the chunked body is malformed")]
    Malformed,
    /// A chunk is too large (CHUNK-2).
    #[error("FormatError: a signed chunk exceeds {MAX_SIGNED_CHUNK} bytes")]
    ChunkTooLarge,
}

/// Where in the framing the next byte stands.
#[derive(Debug)]
enum At {
    /// In the line that begins a chunk.
    Line(Vec<u8>),
    /// In the data of a chunk; so many are left.
    Data(u64),
    /// In the line end behind the data; so many of its bytes are done.
    DataEnd(usize),
    /// Behind the last chunk; so many bytes have come.
    Trailer(u64),
}

/// The state of one body.
#[derive(Debug)]
pub struct Framing {
    kind: Kind,
    at: At,
}

impl Framing {
    /// At the first byte of a body.
    pub fn new(kind: Kind) -> Self {
        Framing { kind, at: At::Line(Vec::new()) }
    }

    /// Takes the next bytes, and gives what `s3s` is to see of them.
    ///
    /// # Errors
    /// The framing is malformed, or a chunk is too large (CHUNK-2).
    pub fn feed(&mut self, bytes: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), FramingError> {
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = self.step(&mut rest)?;
            if self.kind == Kind::Unsigned {
                piece.write(out);
            }
        }
        if self.kind == Kind::Signed {
            out.push_back(bytes);
        }
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    /// `Incomplete` where it may not end here (CHUNK-1).
    pub fn finish(&self) -> Result<(), FramingError> {
        match self.at {
            At::Trailer(_) => Ok(()),
            _ => Err(FramingError::Incomplete),
        }
    }

    fn step(&mut self, rest: &mut Bytes) -> Result<Piece, FramingError> {
        match &mut self.at {
            At::Line(line) => {
                let end = rest.iter().position(|&b| b == b'\n').map(|i| i + 1);
                let take = end.unwrap_or(rest.len());
                if line.len() + take > MAX_LINE {
                    return Err(FramingError::Malformed);
                }
                line.extend_from_slice(&rest.split_to(take));
                if end.is_none() {
                    return Ok(Piece::Nothing);
                }
                match chunk_size(line)? {
                    0 => {
                        let line = Bytes::from(std::mem::take(line));
                        self.at = At::Trailer(0);
                        Ok(Piece::Plain(line))
                    }
                    size if self.kind == Kind::Signed && size > MAX_SIGNED_CHUNK => {
                        Err(FramingError::ChunkTooLarge)
                    }
                    size => {
                        self.at = At::Data(size);
                        Ok(Piece::Nothing)
                    }
                }
            }
            At::Data(left) => {
                let take = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left -= take as u64;
                if *left == 0 {
                    self.at = At::DataEnd(0);
                }
                Ok(Piece::Chunk(rest.split_to(take)))
            }
            At::DataEnd(done) => {
                if rest.get_u8() != b"\r\n"[*done] {
                    return Err(FramingError::Malformed);
                }
                *done += 1;
                if *done == 2 {
                    self.at = At::Line(Vec::new());
                }
                Ok(Piece::Nothing)
            }
            At::Trailer(seen) => {
                *seen += rest.len() as u64;
                if *seen > MAX_TRAILER {
                    return Err(FramingError::Malformed);
                }
                Ok(Piece::Plain(rest.split_to(rest.len())))
            }
        }
    }
}

/// What one step makes of unsigned bytes.
enum Piece {
    Nothing,
    /// To be given as it is.
    Plain(Bytes),
    /// To be given as a chunk of its own.
    Chunk(Bytes),
}

impl Piece {
    fn write(self, out: &mut VecDeque<Bytes>) {
        match self {
            Piece::Nothing => {}
            Piece::Plain(bytes) => out.push_back(bytes),
            Piece::Chunk(bytes) => {
                out.push_back(Bytes::from(format!("{:x}\r\n", bytes.len())));
                out.push_back(bytes);
                out.push_back(Bytes::from_static(b"\r\n"));
            }
        }
    }
}

/// The size in the line that begins a chunk: hexadecimal, up to `;` or the line's end.
fn chunk_size(line: &[u8]) -> Result<u64, FramingError> {
    let digits = line.split(|&b| b == b';' || b == b'\r').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(|_| FramingError::Malformed)?;
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let ends_well = line.ends_with(b"\r\n");
    match u64::from_str_radix(text, 16) {
        Ok(size) if plain && ends_well => Ok(size),
        _ => Err(FramingError::Malformed),
    }
}

/// A body whose framing is watched.
pub struct Framed<B> {
    inner: Pin<Box<B>>,
    framing: Framing,
    out: VecDeque<Bytes>,
    ended: bool,
}

impl<B> Framed<B> {
    /// Watches a body.
    pub fn new(inner: B, kind: Kind) -> Self {
        let framing = Framing::new(kind);
        Framed { inner: Box::pin(inner), framing, out: VecDeque::new(), ended: false }
    }
}

impl<B> http_body::Body for Framed<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let result = match std::task::ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.framing.feed(bytes, &mut this.out).map_err(io::Error::other),
                    Err(_trailers) => Ok(()), // of HTTP itself: S3 has none there
                },
                Some(Err(error)) => Err(io::Error::other(error)),
                None => {
                    this.ended = true;
                    this.framing.finish().map_err(io::Error::other)
                }
            };
            if let Err(error) = result {
                this.ended = true;
                this.out.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(kind: Kind, pieces: &[&[u8]]) -> Result<Vec<u8>, FramingError> {
        let (mut framing, mut out) = (Framing::new(kind), VecDeque::new());
        for piece in pieces {
            framing.feed(Bytes::copy_from_slice(piece), &mut out)?;
        }
        framing.finish()?;
        Ok(out.into_iter().flatten().collect())
    }

    /// Decodes by hand what comes out.
    fn decode(mut framed: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let end = framed.iter().position(|&b| b == b'\n').unwrap() + 1;
            let size = chunk_size(&framed[..end]).unwrap() as usize;
            framed = &framed[end..];
            if size == 0 {
                return (data, framed.to_vec());
            }
            data.extend_from_slice(&framed[..size]);
            assert_eq!(&framed[size..size + 2], b"\r\n");
            framed = &framed[size + 2..];
        }
    }

    #[test]
    fn a_body_may_end_only_behind_its_last_chunk() {
        let whole = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n";
        let last = b"3\r\nabc\r\n0\r\n".len();
        for end in 0..=whole.len() {
            for kind in [Kind::Signed, Kind::Unsigned] {
                let expected = if end < last { Err(FramingError::Incomplete) } else { Ok(()) };
                assert_eq!(run(kind, &[&whole[..end]]).map(drop), expected, "{kind:?} {end}");
            }
        }
        assert_eq!(run(Kind::Unsigned, &[]), Err(FramingError::Incomplete));
    }

    #[test]
    fn what_is_no_framing_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; MAX_LINE]].concat();
        let trailer = [b"0\r\n".as_slice(), &[b'x'; MAX_TRAILER as usize + 1]].concat();
        let rows: [&[u8]; 9] = [
            b"\r\n",
            b"g\r\n",
            b"+3\r\nabc",
            b"3\nabc",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"fffffffffffffffff\r\n",
            &long,
            &trailer,
        ];
        for bad in rows {
            let got = run(Kind::Unsigned, &[bad]);
            assert_eq!(got, Err(FramingError::Malformed), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_signed_chunk_that_would_fill_the_memory_is_refused() {
        let line = |size: u64| format!("{size:x};chunk-signature={}\r\n", "0".repeat(64));
        let too_large = run(Kind::Signed, &[line(MAX_SIGNED_CHUNK + 1).as_bytes()]);
        assert_eq!(too_large, Err(FramingError::ChunkTooLarge)); // CHUNK-2
        let fits = run(Kind::Signed, &[line(MAX_SIGNED_CHUNK).as_bytes()]);
        assert_eq!(fits, Err(FramingError::Incomplete));
        assert_eq!(run(Kind::Unsigned, &[b"140000000\r\n"]), Err(FramingError::Incomplete));
    }

    #[test]
    fn the_kind_stands_in_the_header() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-content-sha256", value.parse().unwrap());
            headers.insert("x-amz-decoded-content-length", "7".parse().unwrap());
            headers
        };
        let rows = [
            ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", Some(Kind::Unsigned)),
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", Some(Kind::Signed)),
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", Some(Kind::Signed)),
            ("UNSIGNED-PAYLOAD", None),
        ];
        for (value, expected) in rows {
            assert_eq!(kind(&headers(value)), expected, "{value}");
            assert_eq!(decoded_len(&headers(value)), expected.map(|_| 7), "{value}");
        }
        assert_eq!(kind(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_in_pieces_of_any_size_keep_their_bytes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            cut in 1_usize..64,
            trailer in "[a-z:]{0,20}",
        ) {
            let mut framed = Vec::new();
            for chunk in &chunks {
                framed.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                framed.extend_from_slice(chunk);
                framed.extend_from_slice(b"\r\n");
            }
            framed.extend_from_slice(b"0\r\n");
            framed.extend_from_slice(trailer.as_bytes());
            let pieces: Vec<&[u8]> = framed.chunks(cut).collect();
            let out = run(Kind::Unsigned, &pieces).unwrap();
            prop_assert_eq!(decode(&out), (chunks.concat(), trailer.into_bytes()));
            prop_assert_eq!(run(Kind::Signed, &pieces).unwrap(), framed);
        }
    }
}
