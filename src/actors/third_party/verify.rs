//! The check of a body while it passes: its length always, its MD5 where one is known. Pure.
//!
//! Used by `body.rs` for every body of a source, whether it is kept, spooled or streamed.
//!
//! - `VERIFY-1` the last piece is given only after everything was found right: who has all the
//!   bytes has the right ones.

use bytes::Bytes;

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It ended early.
    #[error("the body ended {0} bytes early")]
    Short(u64),
    /// It is longer than it should be.
    #[error("the body is longer than declared")]
    Long,
    /// Its MD5 is another one.
    #[error("the md5 of the body is {found}, not {expected}")]
    Md5 {
        /// What was declared or expected.
        expected: String,
        /// What came.
        found: String,
    },
}

/// Watches one body.
pub struct Verifier {
    declared: Option<u64>,
    expected: Option<[u8; 16]>,
    seen: u64,
    md5: md5::Context,
    held: Option<Bytes>,
}

impl Verifier {
    /// A check against what is known of the body.
    pub fn new(declared: Option<u64>, expected: Option<[u8; 16]>) -> Self {
        Verifier { declared, expected, seen: 0, md5: md5::Context::new(), held: None }
    }

    /// Takes a piece, and gives the one before it.
    ///
    /// # Errors
    /// [`Wrong::Long`].
    pub fn push(&mut self, piece: Bytes) -> Result<Option<Bytes>, Wrong> {
        if piece.is_empty() {
            return Ok(None);
        }
        self.seen += piece.len() as u64;
        if self.declared.is_some_and(|declared| self.seen > declared) {
            return Err(Wrong::Long);
        }
        self.md5.consume(&piece);
        Ok(self.held.replace(piece))
    }

    /// The body ended: gives its last piece, its length and its MD5 (VERIFY-1).
    ///
    /// # Errors
    /// See [`Wrong`].
    pub fn finish(self) -> Result<(Option<Bytes>, u64, [u8; 16]), Wrong> {
        if let Some(missing) = self.declared.map(|d| d - self.seen).filter(|&m| m > 0) {
            return Err(Wrong::Short(missing));
        }
        let found = self.md5.finalize().0;
        if let Some(expected) = self.expected.filter(|&e| e != found) {
            let (expected, found) = (hex::encode(expected), hex::encode(found));
            return Err(Wrong::Md5 { expected, found });
        }
        Ok((self.held, self.seen, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn run(
        pieces: &[Vec<u8>],
        declared: Option<u64>,
        md5: Option<[u8; 16]>,
    ) -> (Vec<u8>, Result<(), Wrong>) {
        let (mut verifier, mut given) = (Verifier::new(declared, md5), Vec::new());
        for piece in pieces {
            match verifier.push(Bytes::from(piece.clone())) {
                Ok(before) => given.extend(before.unwrap_or_default()),
                Err(wrong) => return (given, Err(wrong)),
            }
        }
        match verifier.finish() {
            Ok((last, ..)) => {
                given.extend(last.unwrap_or_default());
                (given, Ok(()))
            }
            Err(wrong) => (given, Err(wrong)),
        }
    }

    proptest! {
        #[test]
        fn a_right_body_is_given_whole_and_a_wrong_one_never_is(
            pieces in vec(vec(any::<u8>(), 0..9), 0..6),
            change in 0usize..4,
        ) {
            let all: Vec<u8> = pieces.concat();
            let (len, md5) = (all.len() as u64, md5::compute(&all).0);
            let bad = [0xAA; 16];
            match change {
                0 => {
                    let (given, end) = run(&pieces, Some(len), Some(md5));
                    prop_assert_eq!((given, end), (all.clone(), Ok(())));
                    prop_assert_eq!(run(&pieces, None, None), (all, Ok(())));
                }
                1 => {
                    let (given, end) = run(&pieces, Some(len), Some(bad));
                    let wrong_sum = matches!(end, Err(Wrong::Md5 { .. }));
                    prop_assert!(wrong_sum);
                    prop_assert!(given.is_empty() || given.len() < all.len()); // VERIFY-1
                }
                2 => prop_assert_eq!(run(&pieces, Some(len + 3), None).1, Err(Wrong::Short(3))),
                _ => if len > 0 {
                    let (given, end) = run(&pieces, Some(len - 1), None);
                    prop_assert_eq!(end, Err(Wrong::Long));
                    prop_assert!((given.len() as u64) < len);
                },
            }
        }
    }
}
