//! The third-party service: objects from sources outside the cluster.
//!
//! Asked by the fallback of the read flow, by the executor of save tasks and by the JSON API. The
//! actor answers with what a source says of an object; bytes above the inline limit wait at the
//! data plane of its node for whoever presents the ticket. Fetches run in tasks of the actor.
//!
//! - `TP-1` sources that were added are on disk before that is acknowledged; cache, breakers and
//!   counts begin anew with every start;
//! - `TP-2` at most `third_party.fetches` fetches are under way, each with bounded memory: a body
//!   of up to 1 MiB, or a few pieces of a larger one;
//! - `TP-3` when the actor ends, its fetches end, and with them the streams that they feed: broken
//!   off, never ended well.

pub mod breaker;
pub mod cache;
mod fetch;
mod head;
mod hold;
pub mod message;
mod request;
mod shared;
mod sources;
mod spool;
mod store;
mod take;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{ActorError, Call, Context, Service};
use crate::config;
use crate::data::desk::{Desk, OpenDesk, TransferLimits};
use crate::types::now_ms;
use cache::Cache;
use hold::{Hold, HoldStore};
use message::{Message, Refusal, Reply};
use request::ListWanted;
use shared::{FetchLimits, Shared};
use sources::{Added, BreakerSettings, Sources};
use spool::Spool;

/// The most keys of one listing.
const LIST_MAX: u32 = 100;

/// The service: where its files are, and how its node's data plane is reached.
#[derive(Clone)]
pub struct ThirdParty {
    dir: PathBuf,
    settings: config::ThirdParty,
    desk: Arc<Desk>,
    address: String,
}

impl ThirdParty {
    /// A service with its files in `dir`, whose bodies are fetched through `desk` at `address`.
    pub fn new(
        dir: PathBuf,
        settings: config::ThirdParty,
        desk: Arc<Desk>,
        address: String,
    ) -> Self {
        ThirdParty { dir, settings, desk, address }
    }

    fn file(&self) -> PathBuf {
        self.dir.join("sources.json")
    }
}

/// What the actor holds while it runs.
pub struct State {
    shared: Arc<Shared>,
    _desk: OpenDesk,
}

impl Service for ThirdParty {
    type Req = Message;
    type State = State;
    const TICK: Option<Duration> = Some(Duration::from_secs(1));

    async fn start(&self, _cx: &mut Context) -> Result<State, ActorError> {
        let (file, dir) = (self.file(), self.dir.join("spool"));
        let limit = self.settings.spool_size.0;
        let open = move || -> Result<_, ActorError> {
            Ok((store::read(&file)?, Spool::open(&dir, limit)?))
        };
        let (added, spool) = tokio::task::spawn_blocking(open).await??;
        let settings = &self.settings;
        let breakers = BreakerSettings {
            failures: settings.breaker_failures,
            pause_ms: settings.breaker_pause.0.as_millis() as u64,
        };
        let sources = Sources::new(&settings.sources, added, breakers)?;
        let cache = Cache::new(settings.cache_size.0, settings.cache_ttl.0.as_millis() as u64);
        let hold = Arc::new(Hold::default());
        let store = Arc::new(HoldStore(hold.clone()));
        let desk = self.desk.open(self.address.clone(), store, TransferLimits::default());
        let transfers = desk.transfers().clone();
        let limits = FetchLimits { fetches: settings.fetches, timeout: settings.timeout.0 };
        let shared = Shared::new(sources, cache, hold, spool, transfers, limits);
        Ok(State { shared: Arc::new(shared), _desk: desk })
    }

    async fn handle(
        &self,
        cx: &mut Context,
        call: Call<Message>,
        state: &mut State,
    ) -> Result<(), ActorError> {
        let (shared, deadline, reply) = (state.shared.clone(), call.scope.deadline, call.reply);
        match call.request {
            Message::Open(open) => cx.spawn(fetch::open(shared, open, deadline, reply)),
            Message::List { bucket, prefix, source, after, max } => {
                let wanted = ListWanted { bucket, prefix, after, max: max.clamp(1, LIST_MAX) };
                cx.spawn(async move {
                    let listed = fetch::list(&shared, wanted, source.as_deref(), deadline).await;
                    reply.send(listed);
                });
            }
            Message::Sources => reply.send(Ok(Reply::Sources(shared.sources().views(now_ms())))),
            Message::PutSource { source } => reply.send(self.put(&shared, source).await),
            Message::RemoveSource { name } => reply.send(self.remove(&shared, &name).await),
            Message::Evict { bucket, key } => {
                reply.send(Ok(Reply::Evicted(shared.cache().remove(&bucket, &key))));
            }
            Message::Stats => reply.send(Ok(Reply::Stats(shared.stats()))),
        }
        Ok(())
    }

    async fn tick(&self, _cx: &mut Context, state: &mut State) -> Result<(), ActorError> {
        let now = now_ms();
        state.shared.hold.sweep(now);
        state.shared.cache().sweep(now);
        Ok(())
    }

    fn observe(&self, state: &State) -> serde_json::Value {
        let stats = state.shared.stats();
        serde_json::json!({
            "sources": state.shared.sources().views(now_ms()).len(),
            "requests": stats.requests,
            "fetching": stats.fetching,
            "bodies_waiting": state.shared.hold.waiting(),
        })
    }
}

impl ThirdParty {
    async fn put(&self, shared: &Shared, source: config::Source) -> Result<Reply, Refusal> {
        let source = shared.sources().reveal(source);
        shared.sources().check_put(&source)?;
        let now = now_ms();
        let mut added = shared.sources().added();
        added.retain(|a| a.source.name != source.name);
        added.push(Added { source: source.clone(), changed_ms: now });
        save(&self.file(), added).await?; // TP-1
        shared.sources().put(source, now).map_err(|e| Refusal::Disk(e.to_string()))?;
        Ok(Reply::Done)
    }

    async fn remove(&self, shared: &Shared, name: &str) -> Result<Reply, Refusal> {
        shared.sources().check_remove(name)?;
        let mut added = shared.sources().added();
        added.retain(|a| a.source.name != name);
        save(&self.file(), added).await?;
        shared.sources().remove(name);
        Ok(Reply::Done)
    }
}

async fn save(file: &Path, added: Vec<Added>) -> Result<(), Refusal> {
    let file = file.to_owned();
    let done = tokio::task::spawn_blocking(move || store::write(&file, &added)).await;
    let done = done.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    done.map_err(|e| Refusal::Disk(e.to_string()))
}
