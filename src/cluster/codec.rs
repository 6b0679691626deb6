//! The one binary format of messages between nodes: bincode 1.3.3, fixed-width integers, with limits.
//!
//! Both directions use the same options. Decoding works on slices only (a reader would let a length
//! prefix allocate before it is checked) and returns an error on trailing bytes.
//!
//! - `CODEC-1` nothing above [`DECODE_LIMIT`] is ever decoded;
//! - `CODEC-2` nothing above [`MESSAGE_LIMIT`] is ever sent: an oversized frame would end the
//!   session and every call pending on it.

use bincode::Options;
use serde::{Serialize, de::DeserializeOwned};

/// The largest message or reply that we send, in encoded bytes.
pub const MESSAGE_LIMIT: u64 = 192 * 1024;
/// The largest message that we decode, in encoded bytes.
pub const DECODE_LIMIT: u64 = 256 * 1024;

/// Why a value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The encoded value would exceed [`MESSAGE_LIMIT`].
    #[error("message of {0} bytes exceeds the limit of {MESSAGE_LIMIT}")]
    TooLarge(u64),
    /// The bytes are no such value.
    #[error("malformed message: {0}")]
    Malformed(String),
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .reject_trailing_bytes()
        .with_limit(DECODE_LIMIT)
}

/// The encoded size of a value in bytes, also where it is over the limit.
pub fn encoded_size<T: Serialize>(value: &T) -> u64 {
    let unlimited = bincode::DefaultOptions::new().with_fixint_encoding();
    unlimited.serialized_size(value).unwrap_or(u64::MAX)
}

/// Encodes a value.
///
/// # Errors
/// [`CodecError::TooLarge`] above [`MESSAGE_LIMIT`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let size = encoded_size(value);
    if size > MESSAGE_LIMIT {
        return Err(CodecError::TooLarge(size));
    }
    options().serialize(value).map_err(|e| CodecError::Malformed(e.to_string()))
}

/// Decodes a value that fills `bytes` exactly.
///
/// # Errors
/// [`CodecError::Malformed`] for anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    options().deserialize(bytes).map_err(|e| CodecError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_over_the_limit_is_refused_before_it_is_sent() {
        let fits = vec![7u8; MESSAGE_LIMIT as usize - 8];
        assert_eq!(encode(&fits).map(|b| b.len() as u64), Ok(MESSAGE_LIMIT));
        let over = vec![7u8; MESSAGE_LIMIT as usize - 7];
        assert_eq!(encode(&over), Err(CodecError::TooLarge(MESSAGE_LIMIT + 1)));
    }

    #[test]
    fn trailing_and_missing_bytes_are_malformed() {
        let mut bytes = encode(&(1u32, "a".to_owned())).unwrap();
        assert!(decode::<(u32, String)>(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        assert!(decode::<(u32, String)>(&bytes).is_err());
    }

    #[test]
    fn a_huge_length_prefix_is_malformed_and_allocates_nothing() {
        let bytes = (1u64 << 40).to_le_bytes();
        assert!(decode::<Vec<u8>>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(a in any::<(u64, String, Vec<u8>, Option<i32>)>()) {
            prop_assert_eq!(decode::<(u64, String, Vec<u8>, Option<i32>)>(&encode(&a).unwrap()).unwrap(), a);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<(u64, String, Vec<(u16, String)>)>(&bytes);
        }
    }
}
