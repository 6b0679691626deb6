//! The checksums of a body: MD5 and CRC-64/NVME always, one more where the client chose one; and
//! the checksum of a multipart object from those of its parts.
//!
//! Used by the write and multipart flows and by the S3 edge. Plain code.
//! Source: the S3 user guide, "Checking object integrity".

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::actors::metadata::model::{Checksum, ChecksumAlgorithm, ChecksumType};

/// Computes the checksums of one body, chunk by chunk.
pub struct Digests {
    len: u64,
    md5: md5::Context,
    crc64: crc_fast::Digest,
    chosen: Option<Chosen>,
}

enum Chosen {
    Crc64,
    Crc(ChecksumAlgorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

/// The checksums of a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Bytes.
    pub len: u64,
    /// MD5.
    pub md5: [u8; 16],
    /// CRC-64/NVME.
    pub crc64: u64,
    /// The one that the client chose.
    pub checksum: Option<Checksum>,
}

impl Digests {
    /// Begins a body.
    pub fn new(algorithm: Option<ChecksumAlgorithm>) -> Self {
        let chosen = algorithm.map(|algorithm| match algorithm {
            ChecksumAlgorithm::Crc64Nvme => Chosen::Crc64,
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => {
                Chosen::Crc(algorithm, crc_fast::Digest::new(crc_of(algorithm)))
            }
            ChecksumAlgorithm::Sha1 => Chosen::Sha1(Sha1::new()),
            ChecksumAlgorithm::Sha256 => Chosen::Sha256(Sha256::new()),
        });
        let crc64 = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
        Digests { len: 0, md5: md5::Context::new(), crc64, chosen }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.md5.consume(bytes);
        self.crc64.update(bytes);
        match &mut self.chosen {
            None | Some(Chosen::Crc64) => {}
            Some(Chosen::Crc(_, digest)) => digest.update(bytes),
            Some(Chosen::Sha1(digest)) => digest.update(bytes),
            Some(Chosen::Sha256(digest)) => digest.update(bytes),
        }
    }

    /// How many bytes were taken.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// No byte was taken yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ends the body.
    pub fn finish(self) -> Sums {
        let crc64 = self.crc64.finalize();
        let full = |algorithm, bytes: &[u8]| Checksum {
            algorithm,
            kind: ChecksumType::FullObject,
            value: BASE64_STANDARD.encode(bytes),
        };
        let checksum = self.chosen.map(|chosen| match chosen {
            Chosen::Crc64 => full(ChecksumAlgorithm::Crc64Nvme, &crc64.to_be_bytes()),
            Chosen::Crc(algorithm, digest) => {
                full(algorithm, &(digest.finalize() as u32).to_be_bytes())
            }
            Chosen::Sha1(digest) => full(ChecksumAlgorithm::Sha1, &digest.finalize()),
            Chosen::Sha256(digest) => full(ChecksumAlgorithm::Sha256, &digest.finalize()),
        });
        Sums { len: self.len, md5: self.md5.finalize().0, crc64, checksum }
    }
}

fn crc_of(algorithm: ChecksumAlgorithm) -> CrcAlgorithm {
    match algorithm {
        ChecksumAlgorithm::Crc32 => CrcAlgorithm::Crc32IsoHdlc,
        ChecksumAlgorithm::Crc32c => CrcAlgorithm::Crc32Iscsi,
        _ => CrcAlgorithm::Crc64Nvme,
    }
}

/// How many bytes a checksum of this kind has.
pub fn width(algorithm: ChecksumAlgorithm) -> usize {
    match algorithm {
        ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
        ChecksumAlgorithm::Crc64Nvme => 8,
        ChecksumAlgorithm::Sha1 => 20,
        ChecksumAlgorithm::Sha256 => 32,
    }
}

/// Whether a text is the base64 form of a checksum of this kind.
pub fn is_well_formed(algorithm: ChecksumAlgorithm, value: &str) -> bool {
    BASE64_STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == width(algorithm))
}

/// The kind of checksum that S3 gives a multipart upload which names only the algorithm.
pub fn default_kind(algorithm: ChecksumAlgorithm) -> ChecksumType {
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme => ChecksumType::FullObject,
        _ => ChecksumType::Composite,
    }
}

/// Whether S3 allows this kind for this algorithm in multipart uploads.
pub fn kind_is_allowed(algorithm: ChecksumAlgorithm, kind: ChecksumType) -> bool {
    match (algorithm, kind) {
        (ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c, _) => true,
        (ChecksumAlgorithm::Crc64Nvme, kind) => kind == ChecksumType::FullObject,
        (ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, kind) => {
            kind == ChecksumType::Composite
        }
    }
}

/// The checksum of an object made of parts, from (base64 checksum, size) of each.
///
/// `None` where a part has none, or none of the right width.
pub fn combine<'a>(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
    parts: impl IntoIterator<Item = (Option<&'a str>, u64)>,
) -> Option<Checksum> {
    let mut decoded = Vec::new();
    for (value, size) in parts {
        let bytes = BASE64_STANDARD.decode(value?).ok()?;
        if bytes.len() != width(algorithm) {
            return None;
        }
        decoded.push((bytes, size));
    }
    let value = match kind {
        ChecksumType::Composite => {
            let all: Vec<u8> = decoded.iter().flat_map(|(bytes, _)| bytes).copied().collect();
            let mut digests = Digests::new(Some(algorithm));
            digests.update(&all);
            format!("{}-{}", digests.finish().checksum?.value, decoded.len())
        }
        ChecksumType::FullObject if !kind_is_allowed(algorithm, kind) => return None,
        ChecksumType::FullObject => {
            let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, &b| (n << 8) | u64::from(b));
            let whole = decoded.iter().map(|(bytes, size)| (number(bytes), *size)).reduce(
                |(crc, len), (next, size)| {
                    let all = crc_fast::checksum_combine(crc_of(algorithm), crc, next, size);
                    (all, len + size)
                },
            );
            let bytes = whole?.0.to_be_bytes();
            BASE64_STANDARD.encode(&bytes[8 - width(algorithm)..])
        }
    };
    Some(Checksum { algorithm, kind, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [ChecksumAlgorithm; 5] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];

    fn value(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
        let mut digests = Digests::new(Some(algorithm));
        digests.update(bytes);
        digests.finish().checksum.expect("one was chosen").value
    }

    #[test]
    fn checksums_are_those_of_the_published_check_values() {
        // CRC: the "check" values of the catalogue of CRCs; SHA: the examples of FIPS 180.
        for (algorithm, expected) in ALL.into_iter().zip(["y/Q5Jg==", "4waSgw==", "rosUhgp5mIg="]) {
            assert_eq!(value(algorithm, b"123456789"), expected, "{algorithm:?}");
            assert!(is_well_formed(algorithm, expected));
        }
        assert_eq!(value(ChecksumAlgorithm::Sha1, b"abc"), "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
        let sha256 = value(ChecksumAlgorithm::Sha256, b"");
        assert_eq!(sha256, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn a_composite_checksum_covers_the_checksums_and_counts_the_parts() {
        let parts =
            [value(ChecksumAlgorithm::Sha256, b"a"), value(ChecksumAlgorithm::Sha256, b"b")];
        let list = parts.iter().map(|p| (Some(p.as_str()), 1));
        let got = combine(ChecksumAlgorithm::Sha256, ChecksumType::Composite, list).unwrap();
        let raw: Vec<u8> = parts.iter().flat_map(|p| BASE64_STANDARD.decode(p).unwrap()).collect();
        assert_eq!(got.value, format!("{}-2", value(ChecksumAlgorithm::Sha256, &raw)));
        let lacking = [(Some(parts[0].as_str()), 1), (None, 1)];
        assert_eq!(combine(ChecksumAlgorithm::Sha256, ChecksumType::Composite, lacking), None);
    }

    proptest! {
        #[test]
        fn a_combined_crc_is_the_crc_of_the_whole(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        ) {
            for algorithm in &ALL[..3] {
                let values: Vec<_> = parts.iter().map(|p| value(*algorithm, p)).collect();
                let list = values.iter().zip(&parts);
                let list = list.map(|(v, p)| (Some(v.as_str()), p.len() as u64));
                let got = combine(*algorithm, ChecksumType::FullObject, list).unwrap();
                prop_assert_eq!(got.value, value(*algorithm, &parts.concat()));
            }
        }
    }
}
