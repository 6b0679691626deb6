//! One run: start, faults by the plan, healing, and the end checks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::checker::{Fault as Broken, check, check_together};
use crate::checks;
use crate::clients::{BUCKETS, Client, PROBES, Record};
use crate::cluster::{Cluster, Scale, until};
use crate::history::{Act, Operation};
use crate::plan::{Fault, Step, plan};
use crate::s3::{Answer, S3};

/// `MOCKS3TEST_SCALE` says otherwise.
const SCALE: &str = "metadata=3,storage=3,queue=3,third-party=1,mock-error=1";
const SECONDS: u64 = 120;
const CLIENTS: u32 = 8;
/// How long all processes may take to be one cluster at the start.
const START: Duration = Duration::from_secs(30);
/// After how many steps for each operation it stays open whether all lists of a bucket are of one
/// moment each.
const LIST_STEPS: usize = 10;
/// How long clients go on after everything is healed.
const AFTER: Duration = Duration::from_secs(3);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_acknowledged_is_lost_and_every_read_is_right_whatever_fails() {
    let seed = number("MOCKS3TEST_SEED").unwrap_or_else(rand::random);
    let seconds = number("MOCKS3TEST_SECONDS").unwrap_or(SECONDS);
    eprintln!("nemesis: MOCKS3TEST_SEED={seed} MOCKS3TEST_SECONDS={seconds}");
    let scale = Scale::parse(&std::env::var("MOCKS3TEST_SCALE").unwrap_or(SCALE.into()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::Builder::new().prefix("nemesis-").tempdir().unwrap();
    // stays for a look at it if this fails
    let kept = dir.keep();
    runtime.block_on(run(seed, Duration::from_secs(seconds), scale, &kept));
    std::fs::remove_dir_all(kept).unwrap();
}

async fn run(seed: u64, duration: Duration, scale: Scale, dir: &std::path::Path) {
    let steps = plan(seed, duration, &scale.nodes());
    eprintln!("nemesis: {} steps, data in {}", steps.len(), dir.display());
    let mut cluster = Cluster::start(dir, scale).await;
    let took = until("buckets", START, async || make_buckets(&cluster).await).await.1;
    checks::full_service(&cluster).await;
    eprintln!("nemesis: started in {took:?}");
    let carried = cluster.links.carried();
    assert!(carried > 0, "nodes call each other past the proxies: --advertise is not told");

    let record = Record::new();
    let edges = cluster.edges();
    let new_client = |n| Client::new(n, &edges, seed, record.clone());
    let clients: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(new_client(n).run())).collect();
    hurt(&mut cluster, &steps, duration).await;
    let served = checks::full_service(&cluster).await;
    eprintln!("nemesis: full service {served:?} after the last fault");
    tokio::time::sleep(AFTER).await;
    record.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(cluster.ended(), Vec::<String>::new(), "processes ended by themselves");
    check_all(&mut cluster, &record).await;
}

async fn make_buckets(cluster: &Cluster) -> anyhow::Result<()> {
    let s3 = S3::new(&cluster.edges()[0]);
    for bucket in BUCKETS.into_iter().chain([PROBES]) {
        match s3.create_bucket(bucket).await {
            Answer::Told { status, .. } if status.is_success() || status == 409 => {}
            other => anyhow::bail!("{bucket}: {other:?}"),
        }
    }
    Ok(())
}

/// Goes through the plan; at the end everything is healed.
async fn hurt(cluster: &mut Cluster, steps: &[Step], duration: Duration) {
    let mut moments: Vec<(Duration, bool, usize)> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        moments.extend([(step.begin, true, n), (step.end, false, n)]);
    }
    moments.sort_unstable();
    let begun = Instant::now();
    let mut victims: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, begins, n) in moments {
        tokio::time::sleep(at.saturating_sub(begun.elapsed())).await;
        if begins {
            let fault = &steps[n].fault;
            eprintln!("nemesis: {:6.1} s {fault:?}", at.as_secs_f32());
            victims.insert(n, begin(cluster, fault).await);
        } else {
            end(cluster, &steps[n].fault, &victims[&n]);
        }
    }
    tokio::time::sleep(duration.saturating_sub(begun.elapsed())).await;
}

/// Does it; the nodes that were killed.
async fn begin(cluster: &mut Cluster, fault: &Fault) -> Vec<usize> {
    let all = 0..cluster.nodes.len();
    let killed = match fault {
        Fault::Kill(n) => vec![*n],
        Fault::KillTwo(a, b) => vec![*a, *b],
        Fault::RestartAll => all.collect(),
        Fault::KillLeader(service) => {
            // nobody leads: then any of them
            let leader = cluster.leader(*service).await;
            leader.or(cluster.of(*service).first().copied()).into_iter().collect()
        }
        Fault::Freeze(n) => {
            cluster.freeze(*n);
            vec![]
        }
        Fault::CutOneWay { .. } | Fault::CutBothWays(..) | Fault::Isolate(_) => {
            cuts(cluster, fault).into_iter().for_each(|(from, to)| cluster.links.cut(from, to));
            vec![]
        }
    };
    killed.iter().for_each(|n| cluster.kill(*n));
    killed
}

fn end(cluster: &mut Cluster, fault: &Fault, killed: &[usize]) {
    killed.iter().for_each(|n| cluster.run(*n));
    if let Fault::Freeze(n) = fault {
        cluster.thaw(*n);
    }
    cuts(cluster, fault).into_iter().for_each(|(from, to)| cluster.links.heal(from, to));
}

/// The directions that a fault cuts.
fn cuts(cluster: &Cluster, fault: &Fault) -> Vec<(usize, usize)> {
    let others = |n: usize| (0..cluster.nodes.len()).filter(move |other| *other != n);
    match *fault {
        Fault::CutOneWay { from, to } => vec![(from, to)],
        Fault::CutBothWays(a, b) => vec![(a, b), (b, a)],
        Fault::Isolate(n) => others(n).flat_map(|other| [(n, other), (other, n)]).collect(),
        _ => vec![],
    }
}

async fn check_all(cluster: &mut Cluster, record: &Arc<Record>) {
    let edges = cluster.edges();
    let untold = Client::new(CLIENTS, &edges, 0, record.clone()).read_all().await;
    assert_eq!(untold, Vec::<String>::new(), "keys that could not be read at the end");
    verify(record);
    eprintln!("nemesis: no open task after {:?}", checks::no_open_task(cluster).await);
    eprintln!("nemesis: all copies after {:?}", checks::all_copies(cluster).await);
    eprintln!("nemesis: replicas equal after {:?}", checks::replicas_are_equal(cluster).await);
    eprintln!("nemesis: no orphans after {:?}", checks::no_orphan_data(cluster).await);
    let reader = |url: &str| Client::new(CLIENTS, &[url.to_owned()], 0, record.clone());
    checks::each_copy_serves(cluster, reader).await;
    verify(record);
}

/// Nothing that was told is wrong or without an explanation.
fn verify(record: &Record) {
    assert_eq!(record.wrong(), Vec::<String>::new(), "wrong answers");
    let history = record.history();
    let unknown = history.iter().filter(|o| o.ended.is_none()).count();
    let writes = history.iter().filter(|o| o.act.writes() && o.ended.is_some()).count();
    let count = |f: fn(&Operation) -> bool| history.iter().filter(|o| f(o)).count();
    let refused = count(|o| matches!(o.act, Act::Put { refused: true, .. }));
    let begun = Instant::now();
    let found = check(&history);
    eprintln!(
        "nemesis: {} operations ({writes} writes done, {refused} refused, {unknown} unknown) \
         checked in {:?}",
        history.len(),
        begun.elapsed()
    );
    found.unwrap_or_else(|fault| panic!("{fault}"));
    for bucket in BUCKETS {
        lists_are_of_one_moment(&history, bucket);
    }
    assert!(writes > 0 && unknown < history.len() / 2, "hardly anything was served");
}

/// All keys of a bucket together, as far as that can be told in reasonable time.
fn lists_are_of_one_moment(history: &[Operation], bucket: &str) {
    let (from, begun) = (format!("{bucket}/"), Instant::now());
    let inside = |o: &&Operation| match &o.act {
        Act::List { from: list, .. } => *list == from,
        act => act.key().is_some_and(|key| key.starts_with(&from)),
    };
    let of_bucket: Vec<Operation> = history.iter().filter(inside).cloned().collect();
    match check_together(&of_bucket, LIST_STEPS * of_bucket.len()) {
        Ok(()) => eprintln!("nemesis: lists of {bucket} checked in {:?}", begun.elapsed()),
        Err(Broken::Undecided { .. }) => {
            eprintln!("nemesis: lists of {bucket}: undecided after {:?}", begun.elapsed());
        }
        Err(broken) => panic!("{broken}"),
    }
}
