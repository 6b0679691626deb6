//! Who is in the cluster, as this node sees it.
//!
//! One entry per instance: live while a session with it is ready, lost when that session ended,
//! gone when it left in order. The table is told by `sessions` and read by everybody; changes are
//! told to whoever subscribed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::types::{InstanceId, Service, UnixMillis, now_ms};

/// What a member says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its id, `{service}-{uuid}`, kept with its disk.
    pub instance: InstanceId,
    /// Fresh at every start of the process.
    pub incarnation: u128,
    /// What it runs.
    pub services: Vec<Service>,
    /// Its process id on its machine.
    pub pid: u32,
    /// Its service's JSON API, `http://host:port`.
    pub http_url: String,
    /// Its S3 endpoint, where it has one.
    pub s3_url: Option<String>,
    /// `host:port` of its data plane, where it has one.
    pub data_address: Option<String>,
    /// `host:port` of its cluster listener.
    pub cluster_address: String,
}

impl MemberInfo {
    /// The node name `{instance}#{incarnation}`: another one after every restart, so that a frozen
    /// predecessor cannot lock its successor out.
    pub fn node_name(&self) -> String {
        format!("{}#{:032x}", self.instance, self.incarnation)
    }
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// In session.
    Live,
    /// The session ended without a word.
    Lost,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it said of itself.
    pub info: MemberInfo,
    /// How it stands.
    pub state: MemberState,
    /// Since when.
    pub since_ms: UnixMillis,
    /// Why it was lost, where it was.
    pub lost_cause: Option<String>,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// A member came into session.
    Joined(MemberInfo),
    /// Its session ended; the text says what was seen.
    Lost(MemberInfo, String),
    /// It said goodbye.
    Left(MemberInfo),
}

/// The table of members.
pub struct Members {
    own: MemberInfo,
    table: Mutex<BTreeMap<InstanceId, Member>>,
    events: broadcast::Sender<MemberEvent>,
}

impl Members {
    /// A table that knows only the own node.
    pub fn new(own: MemberInfo) -> Self {
        Members { own, table: Mutex::default(), events: broadcast::Sender::new(256) }
    }

    /// The own node.
    pub fn own(&self) -> &MemberInfo {
        &self.own
    }

    /// The own instance id.
    pub fn own_instance(&self) -> &str {
        &self.own.instance
    }

    /// Whether an instance is in session; the own one always is.
    pub fn is_live(&self, instance: &str) -> bool {
        let live = |m: &Member| m.state == MemberState::Live;
        instance == self.own.instance || self.lock().get(instance).is_some_and(live)
    }

    /// The live members, the own node first.
    pub fn live(&self) -> Vec<MemberInfo> {
        let table = self.lock();
        let others = table.values().filter(|m| m.state == MemberState::Live);
        std::iter::once(self.own.clone()).chain(others.map(|m| m.info.clone())).collect()
    }

    /// All other members that are known, lost ones too.
    pub fn others(&self) -> Vec<Member> {
        self.lock().values().cloned().collect()
    }

    /// Changes from now on; a slow reader loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<MemberEvent> {
        self.events.subscribe()
    }

    /// A session with a member is ready.
    pub fn joined(&self, info: MemberInfo) {
        let row = Member {
            info: info.clone(),
            state: MemberState::Live,
            since_ms: now_ms(),
            lost_cause: None,
        };
        self.lock().insert(info.instance.clone(), row);
        self.tell(MemberEvent::Joined(info));
    }

    /// The session with this incarnation of a member ended.
    pub fn lost(&self, instance: &str, incarnation: u128, cause: &str) {
        let info = {
            let mut table = self.lock();
            let same = |m: &&mut Member| m.info.incarnation == incarnation;
            let Some(member) = table.get_mut(instance).filter(same) else { return };
            if member.state == MemberState::Lost {
                return;
            }
            member.state = MemberState::Lost;
            member.since_ms = now_ms();
            member.lost_cause = Some(cause.to_owned());
            member.info.clone()
        };
        tracing::warn!(peer = info.instance, cause, "member lost");
        self.tell(MemberEvent::Lost(info, cause.to_owned()));
    }

    /// A member said goodbye.
    pub fn left(&self, instance: &str) {
        let member = self.lock().remove(instance);
        if let Some(member) = member {
            self.tell(MemberEvent::Left(member.info));
        }
    }

    fn tell(&self, event: MemberEvent) {
        let _ = self.events.send(event); // nobody listens: fine
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Member>> {
        self.table.lock().expect("no panic while the table is held")
    }
}
