//! The rebalancer: brings every data item to the nodes that are to have it.
//!
//! Runs as a supervised task beside the metadata actor whose changes count. After nodes joined or
//! were removed, and from time to time, it makes a pass over all data items: it counts what there is to
//! do, then has missing copies made (`Replicate` tasks of the queue) and, once all nodes that are to
//! have an item have it, lets the others go (`Discard` tasks). Whatever has too few copies, because
//! their node was removed or more are wanted than before, is made whole by the same pass.
//!
//! What to do is decided in [`plan`]; how much at once and when in [`moves`]; each step is a command of
//! metadata, which refuses what would leave too few copies (REBALANCE-1). All state can be derived
//! again: copies that are wanted already are taken over from whoever asked for them.
//!
//! - `REB-1` a copy is let go only after each node that keeps one has said that it has it;
//! - `REB-2` copies are begun at the rate of the configuration on average;
//! - `REB-3` a pass that meets other members than it began with ends, and the next one begins.

pub mod moves;
pub mod plan;

mod speak;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::actors::metadata::query::BlobInfo;
use crate::actors::metadata::rebalance::{Phase, Progress, ProgressCell, RebalanceStep};
use crate::actors::pace::Pace;
use crate::actors::replicated::{Leads, until_leading};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::types::{DataId, InstanceId, now_ms};

use moves::{Moves, Timetable};
use plan::{Goal, Step};
pub use speak::progress;
use speak::{PAGE, Speaker, Trouble};

/// How often the members are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often copies under way are looked at.
const TICK: Duration = Duration::from_millis(100);
/// The rest after a pass that left nothing to do, and after another one.
const REST: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(30));
/// The pause between pages while nothing is done but to count.
const COUNT_PAUSE: Duration = Duration::from_millis(5);

/// The numbers of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How many copies each item is to have.
    pub replicas: usize,
    /// Bytes a second; 0: nothing is rebalanced.
    pub rate: u64,
    /// How long copies that are let go stay, for reads that run.
    pub grace: Duration,
}

impl Settings {
    /// The settings that a configuration asks for.
    pub fn new(config: &Config) -> Self {
        let storage = &config.storage;
        Settings {
            replicas: storage.replicas,
            rate: storage.rebalance_rate.0,
            grace: storage.delete_grace.0,
        }
    }
}

/// Rebalances for ever, while the own replica of metadata leads.
pub async fn run(cluster: Cluster, settings: Settings, progress: ProgressCell, leads: Leads) {
    if settings.rate == 0 {
        return std::future::pending().await;
    }
    let mut lead = leads.subscribe();
    loop {
        until_leading(&leads).await;
        tokio::select! {
            () = rebalance(&cluster, &settings, &progress) => {}
            _ = lead.wait_for(|leads| !*leads) => {} // what is under way, the next leader finds
        }
    }
}

async fn rebalance(cluster: &Cluster, settings: &Settings, progress: &ProgressCell) {
    let mut rebalancer = Rebalancer {
        pace: Pace::new(settings.rate, Instant::now()),
        speaker: Speaker::new(cluster.clone()),
        settings: settings.clone(),
        told: Told(progress.clone()),
        moves: Moves::default(),
        times: Timetable::default(),
    };
    rebalancer.told.change(|p| p.phase = Phase::Resting);
    loop {
        sleep(LOOK).await;
        if let Err(error) = rebalancer.look().await {
            tracing::debug!(%error, "rebalancing waits");
        }
    }
}

/// Says how far the rebalancer is; that it is off, where it ends.
struct Told(ProgressCell);

impl Told {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().expect("no panic while it is held"));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.change(|p| p.phase = Phase::Off);
    }
}

/// What a pass found to do.
#[derive(Default)]
struct Work {
    moves: u64,
    bytes: u64,
    releases: u64,
    postponed: u64,
}

/// A copy that is too many, and who keeps one.
struct Surplus {
    blob: BlobInfo,
    from: InstanceId,
    kept: Vec<InstanceId>,
}

struct Rebalancer {
    speaker: Speaker,
    settings: Settings,
    told: Told,
    pace: Pace,
    moves: Moves,
    times: Timetable,
}

impl Rebalancer {
    /// Makes a pass, if one is due.
    async fn look(&mut self) -> Result<(), Trouble> {
        let members = self.speaker.members().await?;
        let live = |node: &str| self.speaker.is_live(node);
        if members.is_empty() || !self.times.is_due(&members, Instant::now(), live) {
            return Ok(());
        }
        let goal = Goal { members: members.clone(), replicas: self.settings.replicas };
        let ended = self.pass(&goal).await;
        self.told.change(|p| p.phase = Phase::Resting);
        let rest = if matches!(ended, Ok(true)) { REST.0 } else { REST.1 };
        self.times.passed(members, Instant::now() + rest);
        ended.map(drop)
    }

    /// One pass over all items; false where something is left to a later one.
    async fn pass(&mut self, goal: &Goal) -> Result<bool, Trouble> {
        self.told.change(|p| {
            let (members, copies) = (goal.members.len() as u64, goal.copies() as u64);
            let open = self.moves.count() as u64;
            let phase = Phase::Counting;
            *p = Progress { phase, members, copies, open, since_ms: now_ms(), ..*p };
        });
        self.moves.forgive();
        // Copies that are wanted though no task makes them: of a node that was removed and came back.
        let idle = self.speaker.nothing_is_replicated().await?;
        let work = self.count(goal).await?;
        let begun = (work.moves, work.bytes);
        self.told.change(|p| {
            (p.phase, (p.moves, p.bytes), p.postponed) = (Phase::Moving, begun, work.postponed);
            (p.moved, p.moved_bytes, p.released, p.rate) = (0, 0, 0, 0);
        });
        if work.moves + work.releases == 0 {
            return Ok(work.postponed == 0);
        }
        tracing::info!(copies = work.moves, bytes = work.bytes, "rebalancing begins");
        self.told.change(|p| p.postponed = 0); // counted anew
        let mut after = None;
        loop {
            let page = self.speaker.page(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.data_id);
            self.work_on(goal, page, idle).await?;
        }
        while self.moves.count() > 0 {
            self.settle(goal).await?;
            sleep(TICK).await;
        }
        Ok(self.end())
    }

    /// Whether nothing was left undone.
    fn end(&self) -> bool {
        let mut postponed = 0;
        self.told.change(|p| {
            postponed = p.postponed;
            let Progress { moved, moved_bytes, released, .. } = *p;
            tracing::info!(moved, moved_bytes, released, postponed, "rebalancing ended");
        });
        postponed == 0
    }

    /// Counts what there is to do now.
    async fn count(&self, goal: &Goal) -> Result<Work, Trouble> {
        let (mut work, mut after) = (Work::default(), None);
        loop {
            let page = self.speaker.page(after).await?;
            let Some(last) = page.last() else { return Ok(work) };
            after = Some(last.data_id);
            for blob in &page {
                for step in goal.steps(blob) {
                    match step {
                        Step::Copy { to, .. } if self.can_copy(blob, &to) => {
                            work.moves += 1;
                            work.bytes += blob.len;
                        }
                        Step::Copy { wanted, .. } => work.postponed += u64::from(!wanted),
                        Step::Release { .. } => work.releases += 1,
                    }
                }
            }
            sleep(COUNT_PAUSE).await;
        }
    }

    /// Begins what is to be done about a page of items.
    async fn work_on(
        &mut self,
        goal: &Goal,
        page: Vec<BlobInfo>,
        idle: bool,
    ) -> Result<(), Trouble> {
        self.same_members(goal).await?;
        let mut surplus = Vec::new();
        for blob in page {
            if self.moves.holds(blob.data_id) {
                continue; // looked at when it has landed
            }
            for step in goal.steps(&blob) {
                match step {
                    Step::Copy { to, wanted } => {
                        self.copy(goal, &blob, to, wanted, idle).await?;
                    }
                    Step::Release { from, kept } => {
                        surplus.push(Surplus { blob: blob.clone(), from, kept });
                    }
                }
            }
        }
        self.release(goal, surplus).await
    }

    fn can_copy(&self, blob: &BlobInfo, to: &str) -> bool {
        let live = |node: &str| self.speaker.is_live(node);
        live(to) && !self.moves.is_stuck(to) && blob.locations.iter().any(|at| live(at))
    }

    /// Has a copy made as soon as there is room for it; follows one that is under way already.
    async fn copy(
        &mut self,
        goal: &Goal,
        blob: &BlobInfo,
        to: InstanceId,
        wanted: bool,
        idle: bool,
    ) -> Result<(), Trouble> {
        let ask = !wanted || idle;
        loop {
            if !self.can_copy(blob, &to) {
                self.told.change(|p| p.postponed += u64::from(!wanted)); // else a task waits
                return Ok(());
            }
            let now = Instant::now();
            if self.moves.has_room(&to) && (!ask || self.pace.due(now).is_some()) {
                break;
            }
            self.settle(goal).await?;
            sleep(TICK).await;
        }
        if ask {
            let (data_id, instance) = (blob.data_id, to.clone());
            let step = RebalanceStep::Want { data_id, instance, again: wanted };
            if !self.speaker.step(step).await? {
                return Ok(()); // the object went away
            }
            self.pace.spent(blob.len); // REB-2
        }
        self.moves.begin(blob.data_id, &to, blob.len, Instant::now());
        Ok(())
    }

    /// Looks at the copies under way.
    async fn settle(&mut self, goal: &Goal) -> Result<(), Trouble> {
        self.same_members(goal).await?;
        let items: Vec<DataId> = self.moves.items().into_iter().collect();
        let mut surplus = Vec::new();
        for asked in items.chunks(PAGE) {
            let blobs = self.speaker.blobs(asked.to_vec()).await?;
            let landed = self.moves.look(asked, blobs, Instant::now());
            self.told.change(|p| {
                p.moved += landed.copies;
                p.moved_bytes += landed.bytes;
            });
            for blob in landed.whole {
                let steps = goal.steps(&blob).into_iter();
                surplus.extend(steps.filter_map(|step| match step {
                    Step::Release { from, kept } => {
                        Some(Surplus { blob: blob.clone(), from, kept })
                    }
                    Step::Copy { .. } => None,
                }));
            }
        }
        let given_up = self.moves.give_up(Instant::now(), |node| self.speaker.is_live(node));
        self.told.change(|p| {
            p.postponed += given_up;
            p.open = self.moves.count() as u64;
            p.rate = p.moved_bytes * 1000 / now_ms().saturating_sub(p.since_ms).max(1);
        });
        self.release(goal, surplus).await
    }

    /// Lets copies go, where those that keep one have it (REB-1).
    async fn release(&self, goal: &Goal, surplus: Vec<Surplus>) -> Result<(), Trouble> {
        let mut asked: BTreeMap<&InstanceId, BTreeSet<DataId>> = BTreeMap::new();
        for Surplus { blob, kept, .. } in &surplus {
            for node in kept {
                asked.entry(node).or_default().insert(blob.data_id);
            }
        }
        let mut have = BTreeMap::new();
        for (node, data_ids) in asked {
            let sizes = self.speaker.sizes(node, data_ids.into_iter().collect()).await;
            have.extend(sizes.into_iter().map(|(id, len)| ((id, node.clone()), len)));
        }
        let is_kept = |s: &Surplus, node: &InstanceId| {
            have.get(&(s.blob.data_id, node.clone())) == Some(&s.blob.len)
        };
        let (sure, unsure): (Vec<_>, Vec<_>) =
            surplus.iter().partition(|s| s.kept.iter().all(|node| is_kept(s, node)));
        self.told.change(|p| p.postponed += unsure.len() as u64);
        let steps = sure.into_iter().map(|s| RebalanceStep::Release {
            data_id: s.blob.data_id,
            instance: s.from.clone(),
            keep: goal.copies() as u32,
            grace_ms: self.settings.grace.as_millis() as u64,
        });
        let done = self.speaker.steps(steps.collect()).await?;
        self.told.change(|p| p.released += done);
        Ok(())
    }

    /// REB-3.
    async fn same_members(&self, goal: &Goal) -> Result<(), Trouble> {
        match self.speaker.members().await? == goal.members {
            true => Ok(()),
            false => Err(Trouble::Changed),
        }
    }
}
