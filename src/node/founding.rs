//! Whether a replica of this node may found a group: asked of everybody who might know of one. And
//! whether that may begin: everybody is told of it before.
//!
//! - `FOUND-4` (of `replica/found.rs`): a second group of a kind would be a second truth. In doubt
//!   nobody founds; the operator can say otherwise (`--found-anew`) after a loss of all replicas.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::member;
use crate::cluster::Cluster;
use crate::cluster::consul::Consul;
use crate::cluster::sessions::Sessions;
use crate::replica::KnownGroups;
use crate::replica::found::{Doubt, Intent, MayFound};
use crate::types::Service;

/// How long the others have to say what they know.
const LIMIT: Duration = Duration::from_secs(1);

/// What is looked at.
pub struct Founding {
    /// The way to the others.
    pub cluster: Cluster,
    /// Whether all known addresses were tried.
    pub sessions: Arc<Sessions>,
    /// What this node has heard.
    pub known: Arc<KnownGroups>,
    /// Whether there are other members to be found at the start.
    pub has_seeds: bool,
    /// The Consul that knows of founders, where one is used.
    pub consul: Option<Consul>,
    /// The services whose group may be founded although there was one.
    pub anew: Vec<Service>,
}

impl Founding {
    /// Whether a replica of this service may found a group now, or begin with it.
    pub fn asked_for(self: &Arc<Self>, service: Service) -> MayFound {
        let this = self.clone();
        Arc::new(move |intent| {
            let this = this.clone();
            Box::pin(async move {
                match intent {
                    Intent::Found(founder) => {
                        this.allows(service, founder).await.map_err(Doubt::Wait)
                    }
                    Intent::Begin(group) => this.tell(service, group).await,
                }
            })
        })
    }

    async fn allows(&self, service: Service, founder: u128) -> Result<(), String> {
        if self.anew.contains(&service) {
            return Ok(());
        }
        if let Some(group) = self.known.get(service) {
            return Err(format!(
                "this node has heard of group {group:032x} and waits for a member of it; if all its \
                 replicas are lost for good: --found-anew {}",
                service.short()
            ));
        }
        if !self.sessions.are_settled() {
            return Err("other members are still being called".into());
        }
        let others = member::groups_of_others(&self.cluster, LIMIT).await;
        if self.has_seeds && others.is_empty() {
            return Err("no other member is in session yet".into());
        }
        for (instance, groups) in others {
            let groups = groups.ok_or_else(|| format!("{instance} does not answer"))?;
            self.known.heard(&groups);
            if groups.contains_key(&service) {
                return Err(format!("{instance} has heard of a group"));
            }
        }
        match &self.consul {
            Some(consul) => consul.may_found(service, founder).await,
            None => Ok(()),
        }
    }

    /// Tells all others of a group that was founded here (FOUND-5).
    async fn tell(&self, service: Service, group: u128) -> Result<(), Doubt> {
        if !self.sessions.are_settled() {
            return Err(Doubt::Wait("other members are still being called".into()));
        }
        let others = member::tell_of_group(&self.cluster, LIMIT, (service, group)).await;
        if self.has_seeds && others.is_empty() && !self.anew.contains(&service) {
            return Err(Doubt::Wait("there is no other member to be told of the group".into()));
        }
        for (instance, groups) in others {
            let groups = groups.ok_or_else(|| Doubt::Wait(format!("{instance} does not answer")));
            match groups?.get(&service) {
                Some(other) if *other != group && !self.anew.contains(&service) => {
                    let why = format!("{instance} has heard of another group, {other:032x}");
                    return Err(Doubt::Another(why));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
