//! What all effects have in common: they are started with a curve and a term, run on threads of their
//! own, can be looked at, and give everything back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::term::End;

/// How strong, by the time since the start of the effect, in the unit of the effect. Never negative,
/// never infinite.
pub type Curve = Arc<dyn Fn(Duration) -> f64 + Send + Sync>;

/// An effect at work. It ends by itself with its term; dropping it ends it, waits for its threads and
/// gives everything back.
pub trait Effect: Send {
    /// How it goes. Cheap; at any time, also after its end.
    fn progress(&self) -> Progress;

    /// Ends it, if it is not over, and gives everything back; returns when all of its threads have
    /// ended.
    fn release(self: Box<Self>) -> Released;
}

/// How an effect goes, by its own books: what was achieved is measured, not taken from what was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What the curve asks for now.
    pub requested: f64,
    /// What is achieved now: over the last 100 ms where it is a rate.
    pub effective: f64,
    /// The integral of what was asked for so far: unit x seconds.
    pub requested_total: f64,
    /// The integral of what was achieved so far.
    pub effective_total: f64,
    /// What was asked for and given up for good, since it could not be had: unit x seconds.
    pub shortfall_total: f64,
    /// When it first hurt: the first slot burnt, page touched, connection made.
    pub onset: Option<Instant>,
    /// When it first was within its tolerance of what was asked for.
    pub settled: Option<Instant>,
    /// What it did besides, by name: CPU seconds of a leak, errors of a flood.
    pub aside: Vec<(&'static str, f64)>,
    /// Why it is less than was asked for: a ceiling, a floor of the machine, a refusal of the kernel.
    pub limited_by: Option<String>,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// As it was last.
    pub progress: Progress,
    /// Why it ended.
    pub end: End,
    /// When its last thread stopped hurting.
    pub stopped: Instant,
    /// When all was given back.
    pub released: Instant,
}

/// Why an effect was not started. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A parameter makes no sense here.
    #[error("{0}")]
    Invalid(String),
    /// The machine would not have enough left.
    #[error("{0}")]
    Floor(String),
    /// The system would not let us.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: String,
    },
}
