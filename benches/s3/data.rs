//! The bytes that are stored: seeded, incompressible, and known again by their number.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The largest object.
const LARGEST: usize = 64 << 20;
/// Objects begin at this many different places of the data.
const STARTS: usize = 256;
const STEP: usize = 4096 + 64;

/// Random bytes, of which every object is a piece.
pub struct Data(Bytes);

impl Data {
    /// The data of a seed.
    pub fn new(seed: u64) -> Arc<Data> {
        let mut bytes = vec![0; LARGEST + STARTS * STEP];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        Arc::new(Data(bytes.into()))
    }

    /// The bytes of object number `n`.
    pub fn object(&self, n: u64, len: u64) -> Bytes {
        let start = (n as usize % STARTS) * STEP;
        self.0.slice(start..start + len as usize)
    }
}
