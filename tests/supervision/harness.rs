//! A supervisor over actors that crash on request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mocks3::actors::supervisor::restart::{Limits, Strategy};
use mocks3::actors::supervisor::{ActorNode, ChildSpec, Message, Supervisor, SupervisorSpec};
use mocks3::events::EventLog;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

/// How an actor is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Panic,
    Error,
    Kill,
    /// Hangs in its handler until it is killed.
    HangAndKill,
}

pub const CRASHES: [Crash; 4] = [Crash::Panic, Crash::Error, Crash::Kill, Crash::HangAndKill];

pub struct Do(Crash);
impl ractor::Message for Do {}

struct Victim;

impl Actor for Victim {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Do>,
        Do(crash): Do,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match crash {
            Crash::Panic => panic!("injected"),
            Crash::Error => Err("injected".into()),
            Crash::Kill | Crash::HangAndKill => std::future::pending().await,
        }
    }
}

/// One child as the test sees it: its current actor and how often it started.
#[derive(Default)]
pub struct Slot {
    cell: Mutex<Option<ActorCell>>,
    pub starts: AtomicUsize,
}

impl Slot {
    pub fn starts(&self) -> usize {
        self.starts.load(Ordering::SeqCst)
    }

    pub async fn crash(&self, how: Crash) {
        let cell = self.cell.lock().unwrap().clone().unwrap();
        let actor = ActorRef::<Do>::from(cell.clone());
        match how {
            Crash::Kill => cell.kill(),
            Crash::HangAndKill => {
                let _ = actor.cast(Do(how));
                tokio::time::sleep(Duration::from_millis(5)).await;
                cell.kill();
            }
            Crash::Panic | Crash::Error => drop(actor.cast(Do(how))),
        }
    }
}

pub struct Tree {
    pub root: ActorRef<Message>,
    pub ended: tokio::task::JoinHandle<()>,
    pub slots: Vec<Arc<Slot>>,
    pub events: Arc<EventLog>,
}

/// A supervisor over `count` victims.
pub async fn tree(strategy: Strategy, limits: Limits, count: usize) -> Tree {
    let events = Arc::new(EventLog::default());
    let slots: Vec<Arc<Slot>> = (0..count).map(|_| Arc::default()).collect();
    let children = slots.iter().enumerate().map(|(i, slot)| {
        let slot = slot.clone();
        ChildSpec::local(&format!("child-{i}"), move |supervisor| {
            let slot = slot.clone();
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Victim, (), supervisor).await?;
                *slot.cell.lock().unwrap() = Some(actor.get_cell());
                slot.starts.fetch_add(1, Ordering::SeqCst);
                Ok(actor.get_cell())
            })
        })
    });
    let spec = SupervisorSpec {
        name: "test".into(),
        strategy,
        limits,
        children: children.collect(),
        instance: "test-instance".into(),
        events: events.clone(),
    };
    let (root, ended) = Supervisor::start_root(spec).await.unwrap();
    let tree = Tree { root, ended, slots, events };
    tree.until_running().await;
    tree
}

impl Tree {
    pub async fn observe(&self) -> Vec<ActorNode> {
        let answer = self.root.call(Message::Observe, Some(Duration::from_secs(2))).await;
        answer.unwrap().unwrap()
    }

    /// Waits until every child runs; how long it took.
    pub async fn until_running(&self) -> Duration {
        let begun = Instant::now();
        while self.observe().await.iter().any(|c| c.state != "running") {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", self.observe().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        begun.elapsed()
    }

    /// Waits until a child was started so many times.
    pub async fn until_started(&self, child: usize, starts: usize) {
        let begun = Instant::now();
        while self.slots[child].starts() < starts {
            assert!(begun.elapsed() < Duration::from_secs(10), "child {child} did not come back");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn stop(self) {
        self.root.call(Message::Stop, Some(Duration::from_secs(10))).await.unwrap();
        self.root.stop(None);
        self.ended.await.unwrap();
    }
}
