//! One scene: start, load, deaths, returns, and what must be true afterwards.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use mocks3::points::{self, Point};
use mocks3::types::Service;

use crate::checker::check;
use crate::checks;
use crate::clients::{BUCKETS, Client, PROBES, Record};
use crate::cluster::{Cluster, Scale, until};
use crate::s3::{Answer, S3};
use crate::scenes::{SCENES, Scene, Victim, Who};

/// How many scenes are played at once: most of a scene is waiting.
const AT_ONCE: usize = 3;
const CLIENTS: u32 = 4;
const START: Duration = Duration::from_secs(30);
/// How long it may take until all victims of a scene are dead.
const DEATHS: Duration = Duration::from_secs(60);
/// How long one that died stays away.
const AWAY: Duration = Duration::from_millis(300);
/// How long clients go on when all are back.
const AFTER: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_secs(60);
/// How many commands the others take while a replica is away: more than they keep.
const MISSED: usize = 400;
/// What makes segments of 4 MiB full soon.
const FILLER: usize = 700 << 10;

#[test]
fn wherever_a_process_dies_nothing_acknowledged_is_lost_and_nothing_is_left_over() {
    let only = std::env::var("MOCKS3TEST_SCENE").ok();
    let named = |scene: &&Scene| match &only {
        Some(name) => scene.victims.iter().any(|v| v.point.name() == name),
        None => true,
    };
    let dir = tempfile::Builder::new().prefix("points-").tempdir().unwrap();
    let kept = dir.keep(); // stays for a look at it if this fails
    eprintln!("points: data in {}", kept.display());
    let scenes = Mutex::new(SCENES.iter().enumerate().filter(|(_, scene)| named(scene)));
    let next = || scenes.lock().unwrap().next();
    let (played, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let one_after_another = || {
        while let Some((n, scene)) = next() {
            let dir = kept.join(format!("{n:02}"));
            std::fs::create_dir_all(&dir).unwrap();
            if std::thread::spawn(move || perform(scene, &dir)).join().is_err() {
                failed.lock().unwrap().push(format!("scene {n}: {:?}", scene.victims));
            }
            played.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| _ = scope.spawn(one_after_another)));
    assert!(played.into_inner() > 0, "no scene has the point {only:?}");
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "data in {}:\n{}", kept.display(), failed.join("\n"));
    std::fs::remove_dir_all(kept).unwrap();
}

/// What the nodes are told, so that space comes back and logs end while the test looks on.
fn variables() -> Vec<(&'static str, String)> {
    let storage = |key, value: &str| (key, value.to_owned());
    vec![
        storage("MOCKS3_STORAGE__DELETE_GRACE", "1s"),
        storage("MOCKS3_STORAGE__ORPHAN_GRACE", "4s"),
        storage("MOCKS3_STORAGE__ORPHAN_CHECK", "1s"),
        (points::LOG, "60,20".to_owned()),
    ]
}

/// The nodes of a victim that are armed from the start.
fn armed(cluster: &Cluster, victim: &Victim) -> Vec<usize> {
    let all = cluster.of(victim.service);
    match victim.who {
        Who::One => all[..1].to_vec(),
        Who::All => all,
        Who::Laggard => Vec::new(),
    }
}

fn arm(cluster: &mut Cluster, n: usize, victim: &Victim) {
    let point = format!("{}:{}", victim.point.name(), victim.visit);
    cluster.nodes[n].variables.push((points::CRASH, point));
}

fn disarm(cluster: &mut Cluster, n: usize) {
    cluster.nodes[n].variables.retain(|(name, _)| *name != points::CRASH);
}

fn perform(scene: &'static Scene, dir: &Path) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(play(scene, dir));
}

async fn play(scene: &'static Scene, dir: &Path) {
    let begun = Instant::now();
    let mut cluster = start(scene, dir).await;
    let started = begun.elapsed();
    let record = Record::new();
    let (edges, seed) = (cluster.edges(), rand::random());
    let new_client = |n| Client::new(n, &edges, seed, record.clone());
    let clients: Vec<_> = (0..CLIENTS).map(|n| tokio::spawn(new_client(n).run())).collect();
    let filler = fills(scene).then(|| tokio::spawn(fill(edges.clone())));
    let deaths = let_die(scene, &mut cluster).await;
    wait_for(deaths, &mut cluster).await;
    let died = begun.elapsed();
    filler.inspect(|filler| filler.abort());
    checks::full_service(&cluster).await;
    tokio::time::sleep(AFTER).await;
    record.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(cluster.ended(), Vec::<String>::new(), "more ended than were to");
    check_all(&cluster, &record).await;
    let names: Vec<_> = scene.victims.iter().map(|v| (v.service.short(), v.point.name())).collect();
    eprintln!(
        "points: {names:?} of {}: started {started:.1?}, all dead {died:.1?}, done {:.1?}",
        scene.scale,
        begun.elapsed()
    );
}

async fn start(scene: &Scene, dir: &Path) -> Cluster {
    let mut cluster = Cluster::new(dir, Scale::parse(scene.scale)).await;
    cluster.nodes.iter_mut().for_each(|node| node.variables = variables());
    for victim in scene.victims {
        let armed = armed(&cluster, victim);
        armed.into_iter().for_each(|n| arm(&mut cluster, n, victim));
    }
    begin(&mut cluster).await;
    cluster
}

/// Starts all nodes, and makes the buckets.
pub async fn begin(cluster: &mut Cluster) {
    (0..cluster.nodes.len()).for_each(|n| cluster.run(n));
    let s3 = S3::new(cluster.edges().last().unwrap());
    until("buckets", START, async || {
        for bucket in BUCKETS.into_iter().chain([PROBES]) {
            match s3.create_bucket(bucket).await {
                Answer::Told { status, .. } if status.is_success() || status == 409 => {}
                other => bail!("{bucket}: {other:?}"),
            }
        }
        Ok(())
    })
    .await;
}

/// Whether a segment is to become full.
fn fills(scene: &Scene) -> bool {
    let compacts = |v: &Victim| matches!(v.point, Point::Copied | Point::Removing);
    scene.victims.iter().any(compacts)
}

/// Overwrites large objects.
async fn fill(edges: Vec<String>) {
    let mut edges = edges.iter().map(|url| S3::new(url)).cycle();
    for n in 0.. {
        let body = vec![n as u8; FILLER];
        let edge = edges.next().unwrap();
        let _ = edge.put(PROBES, &format!("filler-{}", n % 2), body.into(), None).await; // dying
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whose deaths are waited for.
struct Deaths {
    /// As whom, and which nodes it may be.
    now: Vec<(&'static Victim, Vec<usize>)>,
    /// One after another, once the others are dead.
    later: VecDeque<&'static Victim>,
    /// The node that dies later.
    late: Option<usize>,
}

/// Brings about what the victims die of besides the load.
async fn let_die(scene: &'static Scene, cluster: &mut Cluster) -> Deaths {
    let (later, now): (Vec<&Victim>, Vec<&Victim>) =
        scene.victims.iter().partition(|victim| victim.who == Who::Laggard);
    let mut late = None;
    if let Some(victim) = later.first() {
        let n = miss_much(cluster, victim.service).await;
        disarm(cluster, n);
        cluster.run(n);
        late = Some(n);
    }
    let now = now.into_iter().map(|victim| (victim, armed(cluster, victim))).collect();
    Deaths { now, later: later.into(), late }
}

/// Kills one that does not lead, and lets the others take more commands than they keep, or until
/// one of them dies: it may make an image for whoever is away.
async fn miss_much(cluster: &mut Cluster, service: Service) -> usize {
    let leads = async || cluster.leader(service).await.ok_or_else(|| anyhow::anyhow!("nobody"));
    let (leader, _) = until("somebody leads", START, leads).await;
    let late = cluster.of(service).into_iter().find(|n| *n != leader).unwrap();
    cluster.kill(late);
    let commands = cluster.edges().into_iter().map(|url| async move {
        let s3 = S3::new(&url);
        for _ in 0..MISSED / 3 {
            match service {
                Service::Queue => s3.put(PROBES, "again", "again".into(), None).await, // a task each
                _ => s3.delete(PROBES, "nothing").await, // a command each, and no data
            };
        }
    });
    let died = async {
        while cluster.ended().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        _ = futures::future::join_all(commands) => {}
        () = died => {}
    }
    late
}

/// Waits until each has died at its point, and starts it again.
async fn wait_for(mut deaths: Deaths, cluster: &mut Cluster) {
    let begun = Instant::now();
    while !deaths.now.is_empty() {
        let Some(end) = cluster.ended().into_iter().next() else {
            let left: Vec<_> = deaths.now.iter().map(|(victim, _)| victim).collect();
            assert!(begun.elapsed() < DEATHS, "never came to their points: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let died = |n: &usize| end.starts_with(&cluster.nodes[*n].instance);
        let at = deaths.now.iter().position(|(_, nodes)| nodes.iter().any(died));
        let at = at.unwrap_or_else(|| panic!("ended unasked: {end}"));
        let (victim, nodes) = deaths.now.swap_remove(at);
        let n = nodes.iter().copied().find(died).unwrap();
        let log = std::fs::read_to_string(cluster.nodes[n].dir.join("log")).unwrap();
        let mark = points::mark(victim.point);
        assert!(end.contains("SIGKILL") && log.contains(&mark), "not at its point: {end}");
        tokio::time::sleep(AWAY).await;
        for n in &nodes {
            cluster.kill(*n);
            disarm(cluster, *n);
        }
        if let Some(late) = deaths.late.filter(|late| nodes.contains(late))
            && let Some(next) = deaths.later.pop_front()
        {
            arm(cluster, late, next);
            deaths.now.push((next, vec![late]));
        }
        nodes.into_iter().for_each(|n| cluster.run(n));
    }
    assert!(deaths.later.is_empty(), "nobody died before {:?}", deaths.later);
}

async fn check_all(cluster: &Cluster, record: &Arc<Record>) {
    let mut reader = Client::new(CLIENTS, &cluster.edges(), 0, record.clone());
    let untold = reader.read_all().await; // each edge reads the copy of its own node
    assert_eq!(untold, Vec::<String>::new(), "keys that could not be read at the end");
    checks::no_open_task(cluster).await;
    checks::all_copies(cluster).await;
    checks::replicas_are_equal(cluster).await;
    each_node_has_just_what_is_referenced(cluster).await;
    let untold = reader.read_all().await;
    assert_eq!(untold, Vec::<String>::new(), "keys that could not be read after all tasks");
    assert_eq!(record.wrong(), Vec::<String>::new(), "wrong answers");
    let history = record.history();
    check(&history).unwrap_or_else(|fault| panic!("{fault}"));
    let writes = history.iter().filter(|o| o.act.writes() && o.ended.is_some()).count();
    assert!(writes > 20, "hardly anything was written: {writes}");
}

/// Each storage node has as many items as there are objects: all copies are there, and no more.
async fn each_node_has_just_what_is_referenced(cluster: &Cluster) {
    until("each node has just what is referenced", SETTLE, async || just_referenced(cluster).await)
        .await;
}

pub async fn just_referenced(cluster: &Cluster) -> anyhow::Result<()> {
    let mut objects = 0;
    for bucket in BUCKETS.into_iter().chain([PROBES]) {
        let path = format!("/api/v1/metadata?bucket={bucket}&limit=1000");
        let page = cluster.json(Service::Metadata, &path).await?;
        objects += page["metadata"].as_array().map_or(0, Vec::len);
    }
    let stats = cluster.json(Service::Storage, "/api/v1/stats").await?;
    let nodes = stats["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let items: Vec<u64> = nodes.iter().filter_map(|n| n["items"].as_u64()).collect();
    let count = cluster.scale.count(Service::Storage);
    let right = items.len() == count && items.iter().all(|i| *i == objects as u64);
    ensure!(right && objects > 0, "{items:?} items on the nodes, {objects} objects");
    Ok(())
}
