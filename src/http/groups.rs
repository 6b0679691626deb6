//! `GET /api/v1/groups`: how the replicas of metadata, queue and mock-error stand.
//!
//! Asked of every live instance; what is shown is what each says of itself.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

use super::admin::Admin;
use super::error::ApiError;
use super::json::{Operation, Params, ParamsInput};
use crate::actors::{fault_injector, metadata, queue_worker};
use crate::cluster::Cluster;
use crate::replica::talk::{self, Group, Standing, digest, standing};
use crate::types::{InstanceId, Service};

/// How long a replica has to say how it stands.
const LIMIT: Duration = Duration::from_millis(1000);
/// How long it has to read all its state.
const DIGEST_LIMIT: Duration = Duration::from_secs(30);

/// One group: one service whose state is replicated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// `metadata-service`.
    #[schema(value_type = String)]
    pub service: Service,
    /// The id of the group, 32 hex digits; none: it was not founded yet.
    pub group: Option<String>,
    /// Who leads, as the one with the highest term says.
    pub leader: Option<InstanceId>,
    /// The term of the leader.
    pub term: u64,
    /// Who votes.
    pub voters: Vec<InstanceId>,
    /// Who holds the state without a vote.
    pub learners: Vec<InstanceId>,
    /// What each replica says of itself.
    pub replicas: Vec<ReplicaView>,
    /// What an operator should know: how little it takes to stop writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    /// Its instance.
    pub instance: InstanceId,
    /// Its own id, another one with every new disk.
    pub id: String,
    /// The last entry of the log that it applied.
    pub applied: u64,
    /// Entries that it is behind the longest log.
    pub lag: u64,
    /// MD5 over all its state with the index of the last command, where that was asked for: equal
    /// on replicas that applied the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What may be asked for.
#[derive(Deserialize, IntoParams)]
pub struct GroupsQuery {
    /// Whether each replica is to read all its state and tell a digest of it.
    #[serde(default)]
    #[param(example = false)]
    digest: bool,
}

impl ParamsInput for GroupsQuery {
    const EXAMPLE: &'static str = "?digest=true";

    fn check(&self) -> Result<(), ApiError> {
        Ok(())
    }
}

/// `GET /api/v1/groups`.
#[derive(Serialize, ToSchema)]
pub struct Groups {
    /// One a service.
    groups: Vec<GroupView>,
}

/// How the operation is described.
pub fn operation() -> Operation {
    Operation::get("/api/v1/groups")
        .about("How the replicas of metadata, queue and mock-error stand")
        .query::<GroupsQuery>()
        .answer::<Groups>(StatusCode::OK, "the groups", json!({ "groups": [] }))
}

/// The operation.
pub async fn handle(
    State(admin): State<Admin>,
    Params(query): Params<GroupsQuery>,
) -> Json<Groups> {
    Json(Groups { groups: groups(&admin.cluster, query.digest).await })
}

/// How the groups of the live instances stand.
pub async fn groups(cluster: &Cluster, digests: bool) -> Vec<GroupView> {
    let (metadata, queue, faults) = tokio::join!(
        group::<metadata::Group>(cluster, Service::Metadata, digests),
        group::<queue_worker::Group>(cluster, Service::Queue, digests),
        group::<fault_injector::Group>(cluster, Service::MockError, digests),
    );
    [metadata, queue, faults].into_iter().flatten().collect()
}

async fn group<G: Group>(cluster: &Cluster, service: Service, digests: bool) -> Option<GroupView> {
    let members = cluster.members().into_iter().filter(|m| m.services.contains(&service));
    let asked = members.map(|m| async move {
        let standing = standing::<G>(cluster, &m.instance, LIMIT).await?;
        let told = match digests {
            true => digest::<G>(cluster, &m.instance, DIGEST_LIMIT).await,
            false => None,
        };
        Some((m.instance, standing, told))
    });
    let answers = futures::future::join_all(asked).await;
    view(service, answers.into_iter().flatten().collect())
}

/// What the answers come to.
fn view(
    service: Service,
    answers: Vec<(InstanceId, Standing, Option<talk::Digest>)>,
) -> Option<GroupView> {
    let knows = |s: &Standing| (s.leader.is_some(), s.term, s.leads);
    let (_, best, _) = answers.iter().max_by_key(|(_, s, _)| knows(s))?;
    let names = |peers: &[crate::replica::types::Peer]| {
        peers.iter().map(|peer| peer.instance.clone()).collect::<Vec<_>>()
    };
    let longest = answers.iter().map(|(_, s, _)| s.last).max().unwrap_or(0);
    let replica =
        |(instance, s, told): &(InstanceId, Standing, Option<talk::Digest>)| ReplicaView {
            instance: instance.clone(),
            id: s.id.to_string(),
            applied: s.applied,
            lag: longest.saturating_sub(s.applied),
            digest: told.as_ref().map(ToString::to_string),
        };
    let (voters, learners) = (names(&best.voters), names(&best.learners));
    Some(GroupView {
        service,
        group: best.group.map(|id| format!("{id:032x}")),
        leader: best.leader.as_ref().map(|peer| peer.instance.clone()),
        term: best.term,
        warning: warning(service, voters.len(), learners.len(), best.leader.is_some()),
        voters,
        learners,
        replicas: answers.iter().map(replica).collect(),
    })
}

fn warning(service: Service, voters: usize, learners: usize, led: bool) -> Option<String> {
    match (led, voters, learners) {
        (false, ..) => Some(format!("{service}: nobody leads; reads and writes are refused")),
        (true, 1, 1..) => Some(format!(
            "{service}: one of {} instances votes; its loss stops writes (three tolerate one loss)",
            learners + 1
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::types::{Peer, ReplicaId};

    fn answer(n: u128, term: u64, applied: u64) -> (InstanceId, Standing, Option<talk::Digest>) {
        let peer = |n: u128| Peer { id: ReplicaId(n), instance: format!("m{n}") };
        let standing = Standing {
            id: ReplicaId(n),
            group: Some(9),
            leads: n == 1,
            leader: (term > 1).then(|| peer(1)),
            term,
            last: applied,
            applied,
            voters: vec![peer(1)],
            learners: vec![peer(2)],
        };
        (format!("m{n}"), standing, None)
    }

    #[test]
    fn the_one_that_knows_the_leader_is_believed_and_two_instances_are_warned_of() {
        let seen = view(Service::Queue, vec![answer(2, 1, 3), answer(1, 2, 5)]).unwrap();
        assert_eq!(seen.leader.as_deref(), Some("m1"));
        assert_eq!(seen.replicas.iter().map(|r| r.lag).collect::<Vec<_>>(), [2, 0]);
        assert!(seen.warning.unwrap().contains("its loss stops writes"));
        assert_eq!(view(Service::Queue, Vec::new()), None);
    }
}
