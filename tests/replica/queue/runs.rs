//! The runs of the queue.

use std::collections::BTreeSet;
use std::time::Duration;

use mocks3::actors::queue_worker::task::TaskState;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clients::Client;
use super::{Flaw, QueueGroup};
use crate::runs::{Run, all_are_caught, on_every_seed, simulated, the_same_twice};
use crate::world::World;

/// Steps of a run; in few of them something happens, or nothing would be done.
const STEPS: usize = 150;
/// How long it may take, once all is well, until every task is completed.
const DRAINED: Duration = Duration::from_secs(60);

/// Workers, relays and the tick.
fn begin(client: &Client) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![tokio::spawn(client.another().tick())];
    tasks.extend((0..2).map(|_| tokio::spawn(client.another().relay())));
    tasks.extend((0..3).map(|n| tokio::spawn(client.another().work(format!("worker-{n}")))));
    tasks
}

async fn end(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        let _ = task.await;
    }
}

/// One run from its seed; it tells how many commands were answered while things went wrong.
fn run(seed: u64, flaw: Option<Flaw>) -> Run {
    simulated(async {
        let nodes = if seed.is_multiple_of(4) { 5 } else { 3 };
        let mut world = World::new(seed, nodes, QueueGroup::new(nodes, flaw), false).await;
        let client = Client::new(world.way(), world.observer.clone());
        let tasks = begin(&client);
        for _ in 0..STEPS {
            world.observe().await;
            if world.dice.chance(0.08) {
                world.misfortune().await;
            }
        }
        end(tasks).await; // in the middle of whatever they do
        let answered = client.known().answers.len();
        heal(&mut world, &client).await;
        nothing_is_lost(&world, &client);
        client.calm_down();
        let tasks = begin(&client);
        let begun = Instant::now();
        while !all_done(&world, &client) {
            let late = begun.elapsed() > DRAINED;
            assert!(!late, "not drained: {:#?}\n{}", world.observer.story(), world.stands());
            world.supervise().await; // a disk that failed shows it only when it is written to
            world.observe().await;
        }
        end(tasks).await;
        heal(&mut world, &client).await;
        world.settle().await;
        judge(&world, &client);
        (world.observer.story(), answered)
    })
}

async fn heal(world: &mut World<QueueGroup>, client: &Client) {
    let took = world.heal(async || client.passes().await).await;
    assert!(took <= Duration::from_secs(10), "whole again only after {took:?}");
}

/// What was acknowledged is there, on every node (SIMQ-1).
fn nothing_is_lost(world: &World<QueueGroup>, client: &Client) {
    for life in world.lives() {
        for id in &client.known().acknowledged {
            assert!(life.view.get(id).unwrap().is_some(), "{id} is lost");
        }
    }
}

fn all_done(world: &World<QueueGroup>, client: &Client) -> bool {
    let known = client.known();
    let pages = world.subject.books.pages();
    known.rows.iter().all(|id| known.relayed.contains(id) && pages.completed.contains_key(id))
}

fn judge(world: &World<QueueGroup>, client: &Client) {
    world.observer.check();
    let known = client.known();
    let pages = world.subject.books.pages();
    let rows: BTreeSet<String> = known.rows.iter().cloned().collect();
    assert_eq!((&known.acknowledged, &pages.known), (&rows, &rows));
    for (key, outcome) in &known.answers {
        assert_eq!(pages.keys.get(key), Some(outcome), "SIMQ-3: {key:x}");
    }
    for (id, tokens) in &known.completed {
        let token = pages.completed.get(id).copied();
        assert_eq!(Vec::from_iter(tokens), Vec::from_iter(&token), "SIMQ-2: {id}");
    }
    let lives = world.lives();
    let digest = lives[0].view.digest().unwrap();
    for life in lives {
        assert_eq!(life.view.applied_index().unwrap(), pages.last);
        assert_eq!(life.view.digest().unwrap(), digest);
        assert_eq!(life.view.stats().unwrap().totals.completed, rows.len() as u64);
        for id in &rows {
            let task = life.view.get(id).unwrap();
            assert_eq!(task.map(|task| task.state), Some(TaskState::Completed), "SIMQ-1: {id}");
        }
    }
}

#[test]
fn no_task_of_the_queue_is_lost_or_done_twice_on_any_seed() {
    let mean = on_every_seed(|seed| run(seed, None));
    assert!(mean > 30, "nothing happened: {mean} commands a seed");
}

#[test]
fn one_seed_twice_is_the_same_run_of_the_queue() {
    for seed in [1, 4, 7] {
        the_same_twice(seed, |seed| run(seed, None));
    }
}

#[test]
fn every_flaw_of_the_queue_is_caught() {
    let flaws = [
        (Flaw::KeysIgnored, "a key was applied twice"),
        (Flaw::AnyToken, "the lease is not held"),
        (Flaw::EarlyExpiry, "other leases were taken back"),
        (Flaw::Forgets, "it is new"),
    ];
    all_are_caught(&flaws, |seed, flaw| run(seed, Some(flaw)));
}
