//! Counts the instances of each service that have a role supervisor, and says where there are fewer
//! than wanted.
//!
//! Who wants how many is told by whoever started the cluster (`up`, `--wanted`). Every node counts
//! for itself, from its own view of the members; the decisions are in [`Census`].
//!
//! - `CENSUS-1` a service is said to be below its wanted count once it was so for [`GRACE`], and to
//!   be whole again at once; each is said once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::supervisor::supervisor_group;
use crate::cluster::Cluster;
use crate::events::{Event, EventKind, EventLog};
use crate::types::Service;

/// How long a service may be below its count before that is said: a crashed actor is back sooner.
const GRACE: Duration = Duration::from_secs(2);
/// How often is counted.
const INTERVAL: Duration = Duration::from_millis(500);

/// How many instances of each service there should be.
pub type Wanted = BTreeMap<Service, usize>;

/// How many instances of a service have their role supervisor, as this node sees it.
pub fn live(cluster: &Cluster, service: Service) -> usize {
    let runs = |instance: &str| {
        let group = supervisor_group(service.short(), instance);
        !ractor::pg::get_members(&group).is_empty()
    };
    let members = cluster.members();
    members.iter().filter(|m| m.services.contains(&service) && runs(&m.instance)).count()
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// So many run of so many.
    Below(Service, usize, usize),
    /// All run again.
    Whole(Service, usize),
}

/// The services that are below their count, since when, and whether that was said.
#[derive(Default)]
pub struct Census {
    below: BTreeMap<Service, (Instant, bool)>,
}

impl Census {
    /// Takes one count of a service.
    pub fn count(
        &mut self,
        now: Instant,
        service: Service,
        live: usize,
        wanted: usize,
    ) -> Option<Finding> {
        if live >= wanted {
            let (_, said) = self.below.remove(&service)?;
            return said.then_some(Finding::Whole(service, wanted));
        }
        let (since, said) = self.below.entry(service).or_insert((now, false));
        if *said || now.duration_since(*since) < GRACE {
            return None;
        }
        *said = true;
        Some(Finding::Below(service, live, wanted))
    }
}

/// Counts for ever.
pub async fn run(cluster: Cluster, wanted: Arc<Wanted>, events: Arc<EventLog>) {
    let mut census = Census::default();
    loop {
        for (service, wanted) in wanted.iter() {
            let live = live(&cluster, *service);
            let (kind, service, detail) =
                match census.count(Instant::now(), *service, live, *wanted) {
                    Some(Finding::Below(service, live, wanted)) => {
                        (EventKind::RoleBelow, service, format!("{live} of {wanted} run"))
                    }
                    Some(Finding::Whole(service, wanted)) => {
                        (EventKind::RoleWhole, service, format!("all {wanted} run"))
                    }
                    None => continue,
                };
            events.record(Event::now(kind, cluster.instance(), service.name(), &detail));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_below_its_count_is_said_once_after_the_grace_and_so_is_its_return() {
        let (mut census, start) = (Census::default(), Instant::now());
        let storage = Service::Storage;
        let rows = [
            (0, 3, None),
            (1, 2, None),
            (1 + GRACE.as_millis() as u64 - 1, 1, None),
            (1 + GRACE.as_millis() as u64, 1, Some(Finding::Below(storage, 1, 3))),
            (9000, 2, None),
            (9001, 3, Some(Finding::Whole(storage, 3))),
            (9002, 3, None),
            (9003, 2, None),
            (9004, 3, None), // back within the grace: nothing was said, nothing is to be said
            (9005, 4, None),
        ];
        for (ms, live, expected) in rows {
            let now = start + Duration::from_millis(ms);
            assert_eq!(census.count(now, storage, live, 3), expected, "at {ms} ms");
        }
    }
}
