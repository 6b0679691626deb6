//! Who dies where.

use mocks3::points::Point;
use mocks3::types::Service;

/// One who dies, and at which visit.
#[derive(Clone, Copy, Debug)]
pub struct Victim {
    pub service: Service,
    pub who: Who,
    pub point: Point,
    pub visit: u64,
}

/// Which instances of a service are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The first.
    One,
    /// All; the others are killed once one has died.
    All,
    /// One that was away until the leader let go of its log. It dies once all armed ones have.
    Laggard,
}

/// A cluster, and who dies in it; each once.
pub struct Scene {
    pub scale: &'static str,
    pub victims: &'static [Victim],
}

const fn metadata(point: Point, visit: u64) -> Victim {
    Victim { service: Service::Metadata, who: Who::One, point, visit }
}

const fn queue(point: Point, visit: u64) -> Victim {
    Victim { service: Service::Queue, who: Who::One, point, visit }
}

const fn storage(point: Point, visit: u64) -> Victim {
    Victim { service: Service::Storage, who: Who::One, point, visit }
}

const fn all(service: Service, point: Point, visit: u64) -> Victim {
    Victim { service, who: Who::All, point, visit }
}

const fn laggard(service: Service, point: Point) -> Victim {
    Victim { service, who: Who::Laggard, point, visit: 1 }
}

const ONE: &str = "metadata=1,storage=3,queue=1";
const THREE: &str = "metadata=3,storage=3,queue=1";
const THREE_QUEUES: &str = "metadata=1,storage=3,queue=3";

const fn scene(scale: &'static str, victims: &'static [Victim]) -> Scene {
    Scene { scale, victims }
}

const M: Service = Service::Metadata;
const Q: Service = Service::Queue;

/// The visits lie behind what a start needs.
pub const SCENES: &[Scene] = {
    use Point::*;
    &[
        scene(
            THREE,
            &[
                all(M, ImageMade, 1),
                laggard(M, ImagePart),
                laggard(M, ImageReceived),
                laggard(M, ImageTaken),
            ],
        ),
        scene(
            THREE_QUEUES,
            &[
                all(Q, ImageMade, 1),
                laggard(Q, ImagePart),
                laggard(Q, ImageReceived),
                laggard(Q, ImageTaken),
            ],
        ),
        scene(ONE, &[metadata(Proposed, 60), queue(Applied, 12), storage(BlobDurable, 20)]),
        scene(ONE, &[metadata(Logged, 60), queue(Committed, 12), storage(Stored, 15)]),
        scene(ONE, &[metadata(Committed, 60), queue(Proposed, 12), storage(EdgeAnswers, 15)]),
        scene(ONE, &[metadata(Applied, 60), queue(ActorAnswers, 12), storage(Aborting, 2)]),
        scene(ONE, &[metadata(ActorAnswers, 60), queue(Executed, 4), storage(Copied, 1)]),
        scene(ONE, &[metadata(Relayed, 3), queue(Logged, 12), storage(Removing, 1)]),
        scene(ONE, &[metadata(Synced, 2), queue(Purging, 1)]),
        scene(ONE, &[metadata(Purging, 1), queue(Synced, 2)]),
        scene(THREE, &[metadata(Logged, 60), queue(Executed, 6)]),
        scene(THREE, &[metadata(Applied, 60)]),
        scene(THREE, &[all(M, ActorAnswers, 60)]),
        scene(THREE, &[all(M, Relayed, 3)]),
        scene(THREE_QUEUES, &[all(Q, Committed, 30)]),
    ]
};

#[test]
fn every_crash_point_has_a_scene() {
    let played: Vec<Point> = SCENES.iter().flat_map(|s| s.victims).map(|v| v.point).collect();
    let missing: Vec<&Point> = Point::ALL.iter().filter(|p| !played.contains(p)).collect();
    assert!(missing.is_empty(), "no scene lets a process die at {missing:?}");
}
