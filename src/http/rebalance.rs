//! How far the rebalancing of storage nodes is, over JSON: `GET /api/v1/rebalance` of metadata, and a
//! part of `GET /api/v1/cluster`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::admin::rfc3339;
use crate::actors::metadata::rebalance::{Phase, Progress};

/// How far the rebalancing is; the numbers are of the pass that runs, or of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebalance {
    /// `off`, `resting`, `counting` or `moving`.
    pub state: String,
    /// Storage nodes that count in N.
    pub nodes: u64,
    /// Copies that each object is to have.
    pub copies: u64,
    /// Copies to be made.
    pub to_move: u64,
    /// Their bytes.
    pub to_move_bytes: u64,
    /// Copies that were made.
    pub moved: u64,
    /// Their bytes.
    pub moved_bytes: u64,
    /// Copies under way.
    pub under_way: u64,
    /// Copies too many that were let go.
    pub released: u64,
    /// Copies that could not be made or let go now; they are tried again.
    pub postponed: u64,
    /// Bytes per second that were moved on average.
    pub rate: u64,
    /// When the pass began, RFC 3339.
    pub since: Option<String>,
}

impl Rebalance {
    /// An example.
    pub fn example() -> Self {
        Rebalance::from(Progress {
            phase: Phase::Resting,
            members: 3,
            copies: 3,
            since_ms: 1_769_860_800_000,
            ..Progress::default()
        })
    }
}

impl From<Progress> for Rebalance {
    fn from(p: Progress) -> Self {
        let state = match p.phase {
            Phase::Off => "off",
            Phase::Resting => "resting",
            Phase::Counting => "counting",
            Phase::Moving => "moving",
        };
        Rebalance {
            state: state.into(),
            nodes: p.members,
            copies: p.copies,
            to_move: p.moves,
            to_move_bytes: p.bytes,
            moved: p.moved,
            moved_bytes: p.moved_bytes,
            under_way: p.open,
            released: p.released,
            postponed: p.postponed,
            rate: p.rate,
            since: (p.since_ms > 0).then(|| rfc3339(p.since_ms)),
        }
    }
}
