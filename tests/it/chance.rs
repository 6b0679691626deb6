//! Seeded chance: from which seed, for how long, and how bytes are spoilt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Numbers at which readers of lengths go wrong.
const ODD_NUMBERS: [u64; 12] = [
    0,
    1,
    127,
    128,
    255,
    65_535,
    65_536,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// Bytes at which readers of text go wrong.
const ODD_BYTES: &[u8] = b"\0\x01\x7f\x80\xff\r\n\t :;,=&?%/\\\"'<>{}[]-+0";

pub struct Chance {
    pub dice: StdRng,
    until: Instant,
}

impl Chance {
    /// `MOCKS3TEST_SEED` and `MOCKS3TEST_SECONDS`, else a new seed and `seconds`.
    pub fn new(what: &str, seconds: u64) -> Chance {
        let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
        let seed = number("MOCKS3TEST_SEED").unwrap_or_else(rand::random);
        eprintln!("{what}: MOCKS3TEST_SEED={seed}");
        let seconds = number("MOCKS3TEST_SECONDS").unwrap_or(seconds);
        let until = Instant::now() + Duration::from_secs(seconds);
        Chance { dice: StdRng::seed_from_u64(seed), until }
    }

    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.dice.random_range(0..end.max(1))
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn number(&mut self) -> u64 {
        match self.one_in(2) {
            true => *self.pick(&ODD_NUMBERS),
            false => self.dice.random::<u64>() >> self.below(64),
        }
    }

    pub fn bytes(&mut self, at_most: usize) -> Vec<u8> {
        (0..self.below(at_most + 1)).map(|_| self.dice.random()).collect()
    }

    /// A text that was given, with one to four injuries; pieces of `others` may get into it.
    pub fn spoil(&mut self, given: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = given.to_vec();
        for _ in 0..=self.below(4) {
            self.injure(&mut bytes, others);
        }
        bytes
    }

    fn injure(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = *self.pick(ODD_BYTES),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                for _ in 0..=self.below(200) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            4 => drop(bytes.splice(at..at, self.bytes(32)).count()),
            5 => bytes.truncate(at),
            6 if bytes.len() >= at + 8 => {
                let number = self.number();
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            7 => {
                // a number in the text becomes another one
                let digits = |b: &u8| b.is_ascii_digit();
                let Some(begin) = bytes[at..].iter().position(digits).map(|i| i + at) else {
                    return;
                };
                let len = bytes[begin..].iter().take_while(|b| digits(b)).count();
                let number = self.number().to_string().into_bytes();
                bytes.splice(begin..begin + len, number);
            }
            _ if !others.is_empty() => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len());
                let to = (from + 1 + self.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => bytes.push(*self.pick(ODD_BYTES)),
        }
    }
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts every panic of the process from now on, also those that a task swallows.
pub fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
}

pub fn panics() -> usize {
    PANICS.load(Ordering::SeqCst)
}
