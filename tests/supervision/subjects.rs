//! What each kind of actor is asked for, and whether it still has what it acknowledged.
//!
//! Used against actors in this process (`state`) and in others (`tests/cluster/crashes`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mocks3::actors::metadata::command::Command as Change;
use mocks3::actors::metadata::model::Refused;
use mocks3::actors::metadata::query::{Query, QueryReply};
use mocks3::actors::metadata::{self, MetadataReply};
use mocks3::actors::queue_worker::command::{Command, Enqueued, Outcome};
use mocks3::actors::queue_worker::task::{NewTask, TaskKind};
use mocks3::actors::queue_worker::{self, QueueReply};
use mocks3::actors::storage_node::message as storage;
use mocks3::actors::third_party::message as third_party;
use mocks3::cluster::calls::instance_group;
use mocks3::cluster::envelope::{Crash, Env};
use mocks3::cluster::{CallError, Cluster, Scope, To, Wire};
use mocks3::replica::talk;
use mocks3::types::{DataId, Service, now_ms};
use ractor::ActorRef;

/// How one actor is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Panic,
    Error,
    Kill,
    /// Hangs in its handler, and is killed a little later.
    HangAndKill,
    /// Hangs in its handler; only its supervisor can find that out.
    #[allow(dead_code, reason = "takes seconds: only the tests in one process use it")]
    Hang,
}

/// Those that are quick.
pub const ENDS: [End; 4] = [End::Panic, End::Error, End::Kill, End::HangAndKill];

/// One kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Metadata,
    Queue,
    Storage,
    ThirdParty,
    /// The actor that has the catalog and its log open.
    MetadataReplica,
    /// The actor that has the queue and its log open.
    QueueReplica,
}

pub const KINDS: [Kind; 6] = [
    Kind::Metadata,
    Kind::Queue,
    Kind::Storage,
    Kind::ThirdParty,
    Kind::MetadataReplica,
    Kind::QueueReplica,
];

/// What was acknowledged, by a name of the test's choosing.
#[derive(Default)]
pub struct Ledger {
    items: BTreeMap<u64, DataId>,
}

/// Sources are replaced after so many: a service takes a bounded number of them.
const SOURCES: u64 = 40;
const CALL: Duration = Duration::from_secs(2);

impl Kind {
    pub fn service(self) -> Service {
        match self {
            Kind::Metadata | Kind::MetadataReplica => Service::Metadata,
            Kind::Queue | Kind::QueueReplica => Service::Queue,
            Kind::Storage => Service::Storage,
            Kind::ThirdParty => Service::ThirdParty,
        }
    }

    pub fn role(self) -> &'static str {
        match self {
            Kind::Metadata => metadata::Message::ROLE,
            Kind::Queue => queue_worker::Message::ROLE,
            Kind::Storage => storage::Message::ROLE,
            Kind::ThirdParty => third_party::Message::ROLE,
            Kind::MetadataReplica => <metadata::Group as talk::Group>::ROLE,
            Kind::QueueReplica => <queue_worker::Group as talk::Group>::ROLE,
        }
    }

    /// Ends the actor of this kind on an instance of this process; says whether there was one.
    pub async fn end(self, instance: &str, how: End) -> bool {
        match self {
            Kind::Metadata => end::<metadata::Message>(instance, how).await,
            Kind::Queue => end::<queue_worker::Message>(instance, how).await,
            Kind::Storage => end::<storage::Message>(instance, how).await,
            Kind::ThirdParty => end::<third_party::Message>(instance, how).await,
            Kind::MetadataReplica => end::<talk::Message<metadata::Group>>(instance, how).await,
            Kind::QueueReplica => end::<talk::Message<queue_worker::Group>>(instance, how).await,
        }
    }

    /// Asks the actor on an instance to keep item `n`; true once it acknowledged that.
    pub async fn keep(self, at: (&Cluster, &str), n: u64, ledger: &mut Ledger) -> bool {
        let id = DataId::new();
        let kept = match self {
            Kind::Metadata | Kind::MetadataReplica => {
                let (name, owner) = (format!("{self:?}-{n}").to_lowercase(), "o".to_owned());
                let change = Change::CreateBucket { name, owner, now_ms: now_ms() };
                let answer = ask(at, metadata::Message::Apply(change)).await;
                // refused: an earlier attempt was applied, and its answer was lost
                let known = Err(Refused::BucketAlreadyOwnedByYou);
                matches!(answer, Ok(MetadataReply::Applied(a)) if a.is_ok() || a == known)
            }
            Kind::Queue | Kind::QueueReplica => {
                let kind = TaskKind::Cleanup { data_id: id, nodes: vec!["nobody".into()] };
                let tasks = vec![NewTask::new(format!("{self:?}-{n}"), kind, now_ms())];
                let enqueue = Command::Enqueue { tasks, limit: 1_000_000 };
                match ask(at, queue_worker::Message::Apply(enqueue)).await {
                    Ok(QueueReply::Applied(Outcome::Enqueued { results })) => {
                        matches!(results[..], [Enqueued::New | Enqueued::Known])
                    }
                    _ => false,
                }
            }
            Kind::Storage => {
                let write = storage::Message::Write { data_id: id, bytes: body(n) };
                matches!(ask(at, write).await, Ok(Ok(storage::Reply::Stored(_))))
            }
            Kind::ThirdParty => {
                // one of the same name is replaced, whether or not this attempt is acknowledged
                ledger.items.retain(|kept, _| kept % SOURCES != n % SOURCES);
                let put = third_party::Message::PutSource { source: source(n) };
                matches!(ask(at, put).await, Ok(Ok(third_party::Reply::Done)))
            }
        };
        if kept {
            ledger.items.insert(n, id);
        }
        kept
    }

    /// Fails if anything acknowledged is not there. Waits for an actor that is on its way back.
    pub async fn check(self, at: (&Cluster, &str), ledger: &Ledger) {
        for (n, id) in &ledger.items {
            let there = match self {
                Kind::Metadata | Kind::MetadataReplica => {
                    let query = Query::GetBucket { bucket: format!("{self:?}-{n}").to_lowercase() };
                    let answer = ask_until(at, metadata::Message::Read(query)).await;
                    matches!(answer, MetadataReply::Read(Ok(QueryReply::Bucket { .. })))
                }
                Kind::Queue | Kind::QueueReplica => {
                    let get = queue_worker::Message::Get { id: format!("{self:?}-{n}") };
                    matches!(ask_until(at, get).await, QueueReply::Task(Some(_)))
                }
                Kind::Storage => {
                    let len = body(*n).len() as u64;
                    let read = storage::Message::Read { data_id: *id, offset: 0, len };
                    ask_until(at, read).await == Ok(storage::Reply::Bytes(body(*n)))
                }
                Kind::ThirdParty => {
                    let answer = ask_until(at, third_party::Message::Sources).await;
                    let Ok(third_party::Reply::Sources(views)) = answer else {
                        panic!("{answer:?}")
                    };
                    views.iter().any(|v| v.source == source(*n))
                }
            };
            assert!(there, "{self:?}: item {n} was acknowledged and is lost");
        }
    }
}

/// A body with a length and content of its own.
fn body(n: u64) -> Bytes {
    (0..(n * 977) % 20_000 + 1).map(|i| (i * 31 + n) as u8).collect()
}

fn source(n: u64) -> mocks3::config::Source {
    let text = format!(
        "name = \"s{}\"\ntype = \"http\"\nendpoint = \"http://127.0.0.1:9/{n}\"",
        n % SOURCES
    );
    toml::from_str(&text).unwrap()
}

async fn ask<M: Wire>((cluster, to): (&Cluster, &str), message: M) -> Result<M::Reply, CallError> {
    cluster.call(&Scope::new(CALL), To::Instance(to), message).await
}

async fn ask_until<M: Wire>(at: (&Cluster, &str), message: M) -> M::Reply {
    let begun = std::time::Instant::now();
    loop {
        match ask(at, message.clone()).await {
            Ok(reply) => return reply,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn end<M: Wire>(instance: &str, how: End) -> bool {
    let cells = ractor::pg::get_local_members(&instance_group(M::ROLE, instance));
    let Some(cell) = cells.into_iter().next() else { return false };
    let actor = ActorRef::<Env<M>>::from(cell.clone());
    match how {
        End::Panic => drop(actor.cast(Env::Crash(Crash::Panic))),
        End::Error => drop(actor.cast(Env::Fail("injected".into()))),
        End::Kill => cell.kill(),
        End::Hang => drop(actor.cast(Env::Crash(Crash::Hang))),
        End::HangAndKill => {
            let _ = actor.cast(Env::Crash(Crash::Hang));
            tokio::time::sleep(Duration::from_millis(20)).await;
            cell.kill();
        }
    }
    true
}
