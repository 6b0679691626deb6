//! Chance as a function of time and seed: no state is carried from one moment to the next, each
//! number is drawn anew from a hash of where it belongs.

/// A number of 64 bits for a place (SplitMix64 of Steele, Lea and Flood 2014, over each part).
fn hash(seed: u64, stream: u64, at: u64) -> u64 {
    let mix = |x: u64| {
        let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(mix(seed) ^ stream) ^ at)
}

/// A number of 64 bits for some bytes.
pub fn hash_of(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(hash(seed, 5, bytes.len() as u64), |so_far, byte| hash(so_far, 6, u64::from(*byte)))
}

/// Uniform from 0 to 1, never 0.
fn uniform(seed: u64, stream: u64, at: u64) -> f64 {
    ((hash(seed, stream, at) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
}

/// Exponential with mean 1.
fn exponential(seed: u64, stream: u64, at: u64) -> f64 {
    -uniform(seed, stream, at).ln()
}

/// Normal with mean 0 and deviation 1 (Box and Muller 1958).
fn normal(seed: u64, stream: u64, at: u64) -> f64 {
    let radius = (2.0 * exponential(seed, stream, at)).sqrt();
    radius * (std::f64::consts::TAU * uniform(seed, stream ^ 1 << 63, at)).cos()
}

/// Whether a burst is on at `t`. They begin by a Poisson process and last for `length`; time is cut in
/// cells of that length, so that only what began in this cell and in the one before can still be on.
/// Of a cell the first and the last beginning are enough, and of a Poisson process both are
/// exponential from their end of the cell.
pub fn bursts(t: f64, per_second: f64, length: f64, seed: u64) -> bool {
    let cell = (t / length).floor();
    let within = t - cell * length;
    let first = |cell: f64| exponential(seed, 0, cell as u64) / per_second;
    if first(cell) <= within {
        return true;
    }
    if cell < 1.0 {
        return false;
    }
    let before = first(cell - 1.0);
    if before > length {
        return false; // none began there
    }
    let from_end = exponential(seed, 1, (cell - 1.0) as u64) / per_second;
    let last = (length - from_end).max(before);
    last > within
}

/// Whether it is on: in each period of `on + off` it is on first, for half as long up to half as long
/// again as `on`, and off for the rest, of which a tenth is always left.
pub fn flaps(t: f64, on: f64, off: f64, seed: u64) -> bool {
    let period = on + off;
    let cell = (t / period).floor();
    let length = on * (0.5 + uniform(seed, 2, cell as u64));
    t - cell * period < length.min(0.9 * period)
}

/// How many halvings there are between the longest time and the shortest step of a walk.
const LEVELS: u32 = 32;
/// The time that a walk covers, in units of its pace; beyond it stands still.
const SPAN: f64 = (1_u64 << 26) as f64;
/// The deviation after one unit of time.
const PACE: f64 = 0.5;

/// Brownian motion from the middle, reflected at 0 and 1: the middle of each interval is drawn given
/// its ends (Levy's construction), down to the interval of `x`.
pub fn walk(x: f64, seed: u64) -> f64 {
    let x = x.clamp(0.0, SPAN);
    let (mut from, mut span) = (0.0, SPAN);
    let (mut a, mut b) = (0.0, PACE * SPAN.sqrt() * normal(seed, 3, 0));
    let mut at = 1_u64; // the number of the interval in the tree of halves
    for _ in 0..LEVELS {
        let deviation = PACE * (span / 4.0).sqrt();
        let middle = (a + b) / 2.0 + deviation * normal(seed, 4, at);
        span /= 2.0;
        at *= 2;
        if x < from + span {
            b = middle;
        } else {
            (a, from, at) = (middle, from + span, at + 1);
        }
    }
    reflect(0.5 + a + (b - a) * (x - from) / span)
}

/// Folds a number into 0 to 1.
fn reflect(x: f64) -> f64 {
    let x = x.rem_euclid(2.0);
    if x > 1.0 { 2.0 - x } else { x }
}
