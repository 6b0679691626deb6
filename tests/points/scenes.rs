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

const fn laggard(point: Point) -> Victim {
    Victim { service: Service::Metadata, who: Who::Laggard, point, visit: 1 }
}

const ONE: &str = "metadata=1,storage=3,queue=1";
const THREE: &str = "metadata=3,storage=3,queue=1";
const THREE_QUEUES: &str = "metadata=1,storage=3,queue=3";

/// The visits lie behind what a start needs.
pub const SCENES: &[Scene] = &[
    Scene {
        scale: THREE,
        victims: &[
            all(Service::Metadata, Point::ImageMade, 1),
            laggard(Point::ImagePart),
            laggard(Point::ImageReceived),
            laggard(Point::ImageTaken),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::Proposed, 60),
            queue(Point::Applied, 12),
            storage(Point::BlobDurable, 20),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::Logged, 60),
            queue(Point::Committed, 12),
            storage(Point::Stored, 15),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::Committed, 60),
            queue(Point::Proposed, 12),
            storage(Point::EdgeAnswers, 15),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::Applied, 60),
            queue(Point::ActorAnswers, 12),
            storage(Point::Aborting, 2),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::ActorAnswers, 60),
            queue(Point::Executed, 4),
            storage(Point::Copied, 1),
        ],
    },
    Scene {
        scale: ONE,
        victims: &[
            metadata(Point::Relayed, 3),
            queue(Point::Logged, 12),
            storage(Point::Removing, 1),
        ],
    },
    Scene { scale: ONE, victims: &[metadata(Point::Synced, 2), queue(Point::Purging, 1)] },
    Scene { scale: ONE, victims: &[metadata(Point::Purging, 1), queue(Point::Synced, 2)] },
    Scene { scale: THREE, victims: &[metadata(Point::Logged, 60), queue(Point::Executed, 6)] },
    Scene { scale: THREE, victims: &[metadata(Point::Applied, 60)] },
    Scene { scale: THREE, victims: &[all(Service::Metadata, Point::ActorAnswers, 60)] },
    Scene { scale: THREE, victims: &[all(Service::Metadata, Point::Relayed, 3)] },
    Scene { scale: THREE_QUEUES, victims: &[all(Service::Queue, Point::Committed, 30)] },
];

#[test]
fn every_crash_point_has_a_scene() {
    let played: Vec<Point> = SCENES.iter().flat_map(|s| s.victims).map(|v| v.point).collect();
    let missing: Vec<&Point> = Point::ALL.iter().filter(|p| !played.contains(p)).collect();
    assert!(missing.is_empty(), "no scene lets a process die at {missing:?}");
}
