//! The fallback through the third-party service.
//!
//! Handed to the read flow by `node`. Small bodies come with the answer of the service's actor,
//! larger ones from the data plane of its node.
//!
//! - `FALL-TP-1` with `expect` the service checks all bytes before it gives the first one;
//!   without, what is wrong breaks the stream before its end, so that nobody gets a whole wrong
//!   object;
//! - `FALL-TP-2` an object whose bytes are read is saved here by a queue task, once in
//!   [`REPEAT_MS`]; HEAD and conditions that fail save nothing.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{TryStreamExt, stream};

use super::{Expected, Fallback, FallbackBody, FallbackObject};
use crate::actors::queue_worker::{self, task};
use crate::actors::third_party::message::{
    Body, Expect, Message, Mode, Open, Opened, Refusal, Reply,
};
use crate::cluster::{CallError, Cluster, Scope, To};
use crate::data::client::DataClient;
use crate::types::{UnixMillis, now_ms};

/// How soon the same object may be saved again.
const REPEAT_MS: u64 = 30_000;
/// How many objects are remembered for that.
const REMEMBERED: usize = 10_000;
/// How long handing in a save task may take.
const ENQUEUE_LIMIT: Duration = Duration::from_secs(5);
/// Saving is less urgent than deleting and replicating.
const SAVE_PRIORITY: u8 = task::DEFAULT_PRIORITY / 2;

/// Asks the third-party service. Cheap to clone.
#[derive(Clone)]
pub struct ThirdPartyFallback {
    cluster: Cluster,
    data: DataClient,
    saved: Arc<Mutex<Recent>>,
}

impl ThirdPartyFallback {
    /// A fallback that calls through `cluster` and fetches bodies with `data`.
    pub fn new(cluster: Cluster, data: DataClient) -> Self {
        ThirdPartyFallback { cluster, data, saved: Arc::default() }
    }

    /// The object with its bytes, and a save task for it once they are read.
    fn object(
        &self,
        bucket: &str,
        key: &str,
        save: task::SaveExpect,
        opened: Opened,
    ) -> FallbackObject {
        let kind = task::TaskKind::Save {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            source: opened.source,
            expect: save,
        };
        let (this, data, body) = (self.clone(), self.data.clone(), opened.body);
        let body = stream::once(async move {
            this.save(kind); // FALL-TP-2: the first byte is wanted
            Ok::<_, io::Error>(bytes(data, body))
        });
        FallbackObject {
            size: opened.size,
            etag: opened.etag,
            last_modified_ms: opened.last_modified_ms.unwrap_or_else(now_ms),
            head: opened.head,
            body: Box::pin(body.try_flatten()),
        }
    }

    /// Hands in a save task, in the background.
    fn save(&self, kind: task::TaskKind) {
        let now = now_ms();
        let task::TaskKind::Save { bucket, key, .. } = &kind else { return };
        let new = self.saved.lock().expect("no panic while it is held").first(bucket, key, now);
        if !new {
            return;
        }
        let cluster = self.cluster.clone();
        tokio::spawn(async move {
            let id = format!("save_{}", uuid::Uuid::new_v4());
            let mut task = task::NewTask::new(id, kind, now);
            task.priority = SAVE_PRIORITY;
            let scope = Scope::new(ENQUEUE_LIMIT);
            if let Err(error) = queue_worker::enqueue(&cluster, &scope, vec![task]).await {
                tracing::warn!(%error, "cannot hand in a save task"); // the next GET tries again
            }
        });
    }

    /// A row that could not be checked in the time of its GET is mended by a task all the same.
    fn save_unchecked(&self, request: Open, row: u64) {
        let this = self.clone();
        tokio::spawn(async move {
            let (bucket, key) = (request.bucket.clone(), request.key.clone());
            let request = Open { mode: Mode::Head, ..request };
            let scope = Scope::new(ENQUEUE_LIMIT);
            let call = this.cluster.call(&scope, To::Any, Message::Open(request));
            if let Ok(Ok(Reply::Opened(opened))) = call.await {
                let source = opened.source;
                let expect = task::SaveExpect::StillRow { row };
                this.save(task::TaskKind::Save { bucket, key, source, expect });
            }
        });
    }
}

#[async_trait::async_trait]
impl Fallback for ThirdPartyFallback {
    async fn fetch(
        &self,
        scope: &Scope,
        bucket: &str,
        key: &str,
        expect: Option<Expected>,
    ) -> Option<FallbackObject> {
        let request = Open {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            expect: expect.map(|e| Expect { size: e.size, md5: e.md5 }),
            source: None,
            mode: if expect.is_some() { Mode::Checked } else { Mode::Stream },
        };
        let save = match expect {
            Some(expected) => task::SaveExpect::StillRow { row: expected.row },
            None => task::SaveExpect::StillAbsent,
        };
        let answer = self.cluster.call(scope, To::Any, Message::Open(request.clone())).await;
        match answer {
            Ok(Ok(Reply::Opened(opened))) => Some(self.object(bucket, key, save, *opened)),
            Ok(Ok(_)) | Err(CallError::NoMember(_)) => None,
            Ok(Err(refusal)) => {
                tracing::warn!(bucket, key, %refusal, "third parties did not give an object");
                if let (Some(expected), Refusal::Failed(_)) = (expect, refusal) {
                    self.save_unchecked(request, expected.row);
                }
                None
            }
            Err(error) => {
                tracing::warn!(bucket, key, %error, "the third-party service did not answer");
                None
            }
        }
    }
}

/// The bytes of an object that the third-party service opened.
pub fn bytes(data: DataClient, body: Body) -> FallbackBody {
    match body {
        Body::None => Box::pin(stream::empty()),
        Body::Inline(bytes) => Box::pin(stream::iter([Ok(bytes)])),
        Body::Ticket { ticket, data_id } => {
            let open = async move {
                let download = data.get(&ticket, data_id).await.map_err(io::Error::other)?;
                Ok::<_, io::Error>(download.map_err(io::Error::other))
            };
            Box::pin(stream::once(open).try_flatten())
        }
    }
}

/// The objects for which a save task was handed in lately.
#[derive(Default)]
struct Recent {
    since: HashMap<(String, String), UnixMillis>,
}

impl Recent {
    /// Whether this is the first time lately.
    fn first(&mut self, bucket: &str, key: &str, now: UnixMillis) -> bool {
        if self.since.len() >= REMEMBERED {
            self.since.retain(|_, since| now < *since + REPEAT_MS);
        }
        if self.since.len() >= REMEMBERED {
            self.since.clear(); // saving twice is harmless, growing without bound is not
        }
        let id = (bucket.to_owned(), key.to_owned());
        if self.since.get(&id).is_some_and(|since| now < since + REPEAT_MS) {
            return false;
        }
        self.since.insert(id, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_saved_once_in_a_while_and_memory_is_bounded() {
        let mut recent = Recent::default();
        assert!(recent.first("b", "k", 0));
        assert!(!recent.first("b", "k", REPEAT_MS - 1));
        assert!(recent.first("b", "other", 1));
        assert!(recent.first("b", "k", REPEAT_MS));
        for n in 0..2 * REMEMBERED {
            recent.first("b", &n.to_string(), REPEAT_MS);
            assert!(recent.since.len() <= REMEMBERED);
        }
    }
}
