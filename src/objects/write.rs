//! Bytes onto storage nodes: to all N in parallel, done when W have them durably.
//!
//! Used by PUT, part upload and copies that move bytes. Bodies of up to `INLINE_LIMIT` travel in
//! messages; larger ones in one data-plane stream per node, through bounded channels.
//!
//! - `WRITE-1` success means that at least W nodes answered "durable" with our length and CRC;
//! - `WRITE-2` a node that fails or stalls is left as soon as W others go on, and no sooner;
//! - `WRITE-3` a body that is not what it was said to be is never ended well on any node;
//! - `WRITE-4` from the first byte offered on, an abort guard stands for the data id.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::actors::metadata::command::NewData;
use crate::actors::storage_node::message::{
    Hashes, INLINE_LIMIT, Message, Reply, StorageError, StoredInfo, Ticket,
};
use crate::cluster::{Scope, To};
use crate::data::client::TransferError;
use crate::points::{self, Point};
use crate::types::{DataId, InstanceId};

use super::Env;
use super::abort::Guard;
use super::body::{Expect, Intake, Upload};
use super::digest::Sums;
use super::error::{FlowError, Unavailable};
use super::placement::{self, NoQuorum, Plan};

/// Chunks that wait for one node.
const LANE_CHUNKS: usize = 4;

/// Data on enough nodes, with no row yet.
pub struct Stored {
    /// Aborts the data unless told that they were committed.
    pub guard: Guard,
    /// What the commit needs to know.
    pub data: NewData,
    /// The checksums.
    pub sums: Sums,
}

/// Why one node has no copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CopyError {
    Full,
    Other(String),
}

/// Takes a body in and stores it.
///
/// # Errors
/// The body is bad, or too few nodes took it.
pub async fn store(
    env: &Env,
    scope: &Scope,
    members: &[InstanceId],
    upload: Upload,
    expect: Expect,
) -> Result<Stored, FlowError> {
    let data_id = DataId::new();
    let settings = &env.settings;
    let plan = placement::plan(members, settings.replicas, settings.write_quorum, data_id);
    let (live, _) = plan.reach(|instance| env.cluster.is_live(instance))?;
    let mut intake = Intake::new(upload, expect, settings.client_limit);
    let first = intake.chunk().await?.unwrap_or_default();
    let guard = Guard::new(env, scope, data_id); // WRITE-4
    let job = Job { env, scope, plan: &plan, data_id };
    let (sums, acks) = if first.len() as u64 <= INLINE_LIMIT {
        let sums = intake.finish()?; // a chunk that short was the last
        (sums.clone(), job.write_inline(&live, first, &sums).await?)
    } else {
        job.stream(live, first, intake).await?
    };
    points::at(Point::Stored);
    let data = new_data(&plan, data_id, &sums, acks);
    Ok(Stored { guard, data, sums })
}

fn new_data(plan: &Plan, data_id: DataId, sums: &Sums, locations: Vec<InstanceId>) -> NewData {
    let missing = plan.targets.iter().filter(|t| !locations.contains(t)).cloned().collect();
    NewData {
        data_id,
        len: sums.len,
        md5: sums.md5,
        crc64: sums.crc64,
        locations,
        missing,
        quorum: plan.quorum as u32,
    }
}

/// One body on its way to the nodes.
struct Job<'a> {
    env: &'a Env,
    scope: &'a Scope,
    plan: &'a Plan,
    data_id: DataId,
}

/// The way to one node.
struct Lane {
    node: InstanceId,
    chunks: mpsc::Sender<Bytes>,
    /// Taken before the good end.
    hashes: Option<oneshot::Sender<Hashes>>,
    done: AbortOnDropHandle<Result<StoredInfo, CopyError>>,
}

impl Job<'_> {
    async fn write_inline(
        &self,
        live: &[InstanceId],
        bytes: Bytes,
        sums: &Sums,
    ) -> Result<Vec<InstanceId>, FlowError> {
        let calls: FuturesUnordered<_> = live
            .iter()
            .map(|node| {
                let (data_id, bytes) = (self.data_id, bytes.clone());
                let message = Message::WriteHashed { data_id, bytes, hashes: hashes(sums) };
                async move { (node.clone(), self.ask(node, message).await.and_then(stored)) }
            })
            .collect();
        let race = self.race(calls, self.env.settings.node_timeout).await;
        race.into_acks(self.plan.quorum, sums)
    }

    async fn stream(
        &self,
        live: Vec<InstanceId>,
        first: Bytes,
        mut intake: Intake,
    ) -> Result<(Sums, Vec<InstanceId>), FlowError> {
        let mut lanes = self.open_lanes(live, intake.declared_len()).await?;
        let mut next = Some(first);
        while let Some(chunk) = next {
            self.send(&mut lanes, chunk).await?;
            next = intake.chunk().await?;
        }
        let sums = intake.finish()?; // WRITE-3: before the marker of the good end
        for lane in &mut lanes {
            if let Some(tell) = lane.hashes.take() {
                let _ = tell.send(hashes(&sums)); // a lane that has failed does not listen
            }
        }
        self.send(&mut lanes, Bytes::new()).await?;
        let done: FuturesUnordered<_> = lanes
            .into_iter()
            .map(|Lane { node, chunks, done, .. }| async move {
                drop(chunks);
                let result = done.await;
                (node, result.unwrap_or_else(|e| Err(CopyError::Other(e.to_string()))))
            })
            .collect();
        let race = self.race(done, self.env.settings.transfer_limit).await;
        let acks = race.into_acks(self.plan.quorum, &sums)?;
        Ok((sums, acks))
    }

    /// Asks for tickets and opens a stream to each node that gave one.
    async fn open_lanes(
        &self,
        live: Vec<InstanceId>,
        len: Option<u64>,
    ) -> Result<Vec<Lane>, FlowError> {
        let calls: FuturesUnordered<_> = live
            .iter()
            .map(|node| {
                let message = Message::BeginWrite { data_id: self.data_id, len };
                async move { (node.clone(), self.ask(node, message).await.and_then(ticket)) }
            })
            .collect();
        let race = self.race(calls, self.env.settings.node_timeout).await;
        race.check(self.plan.quorum)?;
        Ok(race.good.into_iter().map(|(node, ticket)| self.open_lane(node, ticket, len)).collect())
    }

    fn open_lane(&self, node: InstanceId, ticket: Ticket, len: Option<u64>) -> Lane {
        let (chunks, rx) = mpsc::channel(LANE_CHUNKS);
        let (tell, told) = oneshot::channel();
        let (client, data_id) = (self.env.data.clone(), self.data_id);
        let task = async move {
            client.put_hashed(&ticket, data_id, rx, len, told).await.map_err(transfer)
        };
        let done = AbortOnDropHandle::new(tokio::spawn(task));
        Lane { node, chunks, hashes: Some(tell), done }
    }

    /// Hands a chunk to every lane; leaves lanes that fail, and those that stall while W go on
    /// (WRITE-2).
    async fn send(&self, lanes: &mut Vec<Lane>, chunk: Bytes) -> Result<(), FlowError> {
        let quorum = self.plan.quorum;
        let mut sends: FuturesUnordered<_> = lanes
            .iter()
            .enumerate()
            .map(|(i, lane)| {
                let (chunks, chunk) = (lane.chunks.clone(), chunk.clone());
                async move { (i, chunks.send(chunk).await.is_ok()) }
            })
            .collect();
        let begun = Instant::now();
        let patient = begun + self.env.settings.transfer_limit;
        let mut taken = vec![false; lanes.len()];
        loop {
            let enough = taken.iter().filter(|&&t| t).count() >= quorum;
            let limit = if enough { begun + self.env.settings.stall_limit } else { patient };
            match timeout_at(limit, sends.next()).await {
                Ok(Some((i, ok))) => taken[i] = ok,
                Ok(None) | Err(_) => break,
            }
        }
        drop(sends);
        let mut taken = taken.into_iter();
        lanes.retain(|lane| {
            let keep = taken.next().unwrap_or(false);
            if !keep {
                tracing::warn!(node = %lane.node, data_id = %self.data_id, "node left behind");
            }
            keep
        });
        if lanes.len() < quorum {
            return Err(NoQuorum { have: lanes.len(), need: quorum }.into());
        }
        Ok(())
    }

    async fn ask(&self, node: &str, message: Message) -> Result<Reply, CopyError> {
        let scope = self.scope.within(self.env.settings.node_timeout);
        match self.env.cluster.call(&scope, To::Instance(node), message).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(StorageError::Full)) => Err(CopyError::Full),
            Ok(Err(error)) => Err(CopyError::Other(error.to_string())),
            Err(error) => Err(CopyError::Other(error.to_string())),
        }
    }

    async fn race<T>(
        &self,
        futures: FuturesUnordered<impl Future<Output = (InstanceId, Result<T, CopyError>)>>,
        limit: Duration,
    ) -> Race<T> {
        let straggler_wait = self.env.settings.straggler_wait;
        let race = race(futures, self.plan.quorum, straggler_wait, limit).await;
        for (node, error) in &race.bad {
            tracing::warn!(%node, ?error, data_id = %self.data_id, "node did not take the data");
        }
        race
    }
}

/// What came of asking several nodes for the same.
struct Race<T> {
    good: Vec<(InstanceId, T)>,
    bad: Vec<(InstanceId, CopyError)>,
}

/// Waits for all, but no longer than `straggler_wait` once `quorum` succeeded, nor once it cannot
/// be reached any more.
async fn race<T>(
    mut futures: FuturesUnordered<impl Future<Output = (InstanceId, Result<T, CopyError>)>>,
    quorum: usize,
    straggler_wait: Duration,
    limit: Duration,
) -> Race<T> {
    let mut race = Race { good: Vec::new(), bad: Vec::new() };
    let mut deadline = Instant::now() + limit;
    while race.good.len() + futures.len() >= quorum {
        match timeout_at(deadline, futures.next()).await {
            Ok(Some((node, Ok(value)))) => {
                race.good.push((node, value));
                if race.good.len() == quorum {
                    deadline = deadline.min(Instant::now() + straggler_wait);
                }
            }
            Ok(Some((node, Err(error)))) => race.bad.push((node, error)),
            Ok(None) | Err(_) => break,
        }
    }
    race
}

impl<T> Race<T> {
    fn check(&self, need: usize) -> Result<(), FlowError> {
        if self.good.len() >= need {
            return Ok(());
        }
        if self.bad.iter().any(|(_, error)| *error == CopyError::Full) {
            return Err(Unavailable::Full.into());
        }
        Err(NoQuorum { have: self.good.len(), need }.into())
    }
}

impl Race<StoredInfo> {
    /// The nodes whose copy is the body that we saw (WRITE-1).
    fn into_acks(mut self, quorum: usize, sums: &Sums) -> Result<Vec<InstanceId>, FlowError> {
        self.good.retain(|(node, info)| {
            let same = info.len == sums.len && info.md5 == sums.md5 && info.crc64 == sums.crc64;
            if !same {
                tracing::error!(%node, ?info, "node stored other bytes than were sent");
            }
            same
        });
        self.check(quorum)?;
        Ok(self.good.into_iter().map(|(node, _)| node).collect())
    }
}

fn hashes(sums: &Sums) -> Hashes {
    Hashes { md5: sums.md5, crc64: sums.crc64 }
}

fn stored(reply: Reply) -> Result<StoredInfo, CopyError> {
    match reply {
        Reply::Stored(info) => Ok(info),
        other => Err(CopyError::Other(format!("unexpected reply {other:?}"))),
    }
}

fn ticket(reply: Reply) -> Result<Ticket, CopyError> {
    match reply {
        Reply::Ticket(ticket) => Ok(ticket),
        other => Err(CopyError::Other(format!("unexpected reply {other:?}"))),
    }
}

fn transfer(error: TransferError) -> CopyError {
    match error {
        TransferError::Refused(StorageError::Full) => CopyError::Full,
        error => CopyError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that answer after so many ms, well or not.
    async fn run(nodes: &[(u64, bool)], quorum: usize) -> (usize, usize, Duration) {
        let futures: FuturesUnordered<_> = nodes
            .iter()
            .enumerate()
            .map(|(i, &(ms, ok))| async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                (i.to_string(), if ok { Ok(()) } else { Err(CopyError::Other("no".into())) })
            })
            .collect();
        let begun = Instant::now();
        let (wait, limit) = (Duration::from_millis(100), Duration::from_millis(600));
        let race = race(futures, quorum, wait, limit).await;
        (race.good.len(), race.bad.len(), begun.elapsed())
    }

    #[tokio::test]
    async fn a_straggler_is_waited_for_only_a_little_once_the_quorum_is_there() {
        let (good, bad, took) = run(&[(0, true), (0, true), (5_000, true)], 2).await;
        assert_eq!((good, bad), (2, 0));
        assert!(
            took >= Duration::from_millis(100) && took < Duration::from_millis(500),
            "{took:?}"
        );
        let (good, _, _) = run(&[(0, true), (0, true), (20, true)], 2).await;
        assert_eq!(good, 3, "one that comes within the wait still counts");
    }

    #[tokio::test]
    async fn a_quorum_out_of_reach_ends_the_wait_at_once() {
        let (good, bad, took) = run(&[(0, false), (0, false), (5_000, true)], 2).await;
        assert_eq!((good, bad), (0, 2));
        assert!(took < Duration::from_millis(100), "{took:?}");
        let (good, _, took) = run(&[(0, true), (5_000, true), (5_000, true)], 2).await;
        assert_eq!(good, 1);
        assert!(took >= Duration::from_millis(600), "silent nodes get the whole limit: {took:?}");
    }

    #[test]
    fn a_node_that_stored_other_bytes_does_not_count() {
        let sums = Sums { len: 3, md5: [1; 16], crc64: 0, checksum: None };
        let info = |md5| StoredInfo { len: 3, md5, crc64: 0, stored_at_ms: 0 };
        let race = |second| Race {
            good: vec![("a".into(), info([1; 16])), ("b".into(), info(second))],
            bad: vec![("c".into(), CopyError::Full)],
        };
        assert_eq!(race([1; 16]).into_acks(2, &sums), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(race([2; 16]).into_acks(1, &sums), Ok(vec!["a".into()]));
        assert_eq!(race([2; 16]).into_acks(2, &sums), Err(Unavailable::Full.into()));
    }
}
