//! That it fills as asked, follows, leaves the floor and gives all back; judged by the store's own
//! count, and by statvfs.

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::outside::{MIB, alone, dial, eventually, gone, on_ground, term, threads};
use super::*;
use crate::faults::term::End;

const BUDGET: u64 = 10_000_000;

/// A store that refuses what its budget has no room for.
#[derive(Default)]
struct Store {
    budget: u64,
    data: AtomicU64,
    reserved: AtomicU64,
}

impl Store {
    fn new(data: u64) -> Arc<Store> {
        Arc::new(Store { budget: BUDGET, data: AtomicU64::new(data), ..Store::default() })
    }

    fn write(&self, bytes: u64) -> Result<(), ()> {
        let fits = self.used_bytes() + bytes <= self.budget;
        self.data.fetch_add(if fits { bytes } else { 0 }, Ordering::Relaxed);
        fits.then_some(()).ok_or(())
    }

    fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    fn is_used(&self, bytes: u64) {
        eventually("used as asked", || self.used_bytes() == bytes);
    }
}

impl Quota for Store {
    fn budget_bytes(&self) -> u64 {
        self.budget
    }

    fn used_bytes(&self) -> u64 {
        self.data.load(Ordering::Relaxed) + self.reserved()
    }

    fn reserve(&self, bytes: u64) {
        self.reserved.store(bytes, Ordering::Relaxed);
    }
}

fn aside(progress: &Progress, name: &str) -> f64 {
    progress.aside.iter().find(|(found, _)| *found == name).unwrap().1
}

/// Asked for is what was found, missing or too much, within this part.
fn adds_up(progress: &Progress, within: f64) {
    let surplus = aside(progress, "surplus_percent_s");
    let sum = progress.effective_total + progress.shortfall_total - surplus;
    let off = (sum - progress.requested_total).abs();
    let all = progress.requested_total.max(progress.effective_total);
    assert!(progress.requested_total > 0.0 && off <= within * all, "{sum} of {progress:?}");
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_store_has_no_more_room_than_the_fault_leaves_and_all_of_it_afterwards() {
    let _alone = alone();
    let store = Store::new(2_000_000);
    let (curve, turn) = dial(85.0);
    let begun = Instant::now();
    let effect = start(Target::Quota(store.clone()), curve, term()).unwrap();
    store.is_used(8_500_000);
    assert_eq!(threads("fault-disk").len(), 1);
    assert!(store.write(1_500_001).is_err(), "it fits nevertheless");
    store.write(1_000_000).unwrap();
    store.is_used(8_500_000); // The fault made up for it
    assert_eq!(store.reserved(), 5_500_000);
    turn(95.5);
    store.is_used(9_550_000);
    turn(40.0);
    store.is_used(4_000_000);
    thread::sleep(Duration::from_millis(100));
    let seen = effect.progress();
    assert_eq!((seen.requested, seen.effective), (40.0, 40.0));
    assert_eq!(aside(&seen, "bytes"), 1_000_000.0);
    let (onset, settled) = (seen.onset.unwrap(), seen.settled.unwrap());
    assert!(begun <= onset && onset <= settled && settled <= Instant::now());
    let asked = Instant::now();
    let released = effect.release();
    gone("fault-disk");
    assert_eq!((store.reserved(), released.end), (0, End::Deleted));
    store.write(7_000_000).unwrap();
    assert!(asked <= released.stopped && released.stopped <= released.released);
    assert!(released.released - asked < Duration::from_millis(500));
    assert_eq!((released.progress.requested, released.progress.effective), (40.0, 40.0));
    adds_up(&released.progress, 0.2); // The dial was turned twice, each between two looks
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn what_the_data_takes_beyond_the_level_is_surplus_and_nothing_is_taken_on_top() {
    let _alone = alone();
    let store = Store::new(6_000_000);
    let effect = start(Target::Quota(store.clone()), Arc::new(|_| 30.0), term()).unwrap();
    thread::sleep(Duration::from_millis(200));
    let seen = effect.progress();
    assert_eq!((store.reserved(), seen.effective, seen.onset), (0, 60.0, None));
    assert_eq!(seen.settled, None);
    let last = effect.release().progress;
    assert!(aside(&last, "surplus_percent_s") > 3.0 && last.shortfall_total == 0.0, "{last:?}");
    adds_up(&last, 0.02);
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn more_than_all_is_all_and_the_rest_is_shortfall() {
    let _alone = alone();
    let store = Store::new(1);
    let effect = start(Target::Quota(store.clone()), Arc::new(|_| 150.0), term()).unwrap();
    store.is_used(BUDGET);
    assert!(store.write(1).is_err());
    thread::sleep(Duration::from_millis(200));
    let last = effect.release().progress;
    assert_eq!((last.requested, last.effective), (150.0, 100.0));
    assert!(last.shortfall_total > 5.0, "{last:?}");
    assert!(last.limited_by.as_ref().unwrap().contains("10000000"), "{last:?}");
    adds_up(&last, 0.02);
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn it_ends_by_itself_by_its_deadline_its_lease_a_drop_and_a_panic() {
    let _alone = alone();
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(600));
    let cases = [
        (short, long, Some(End::Expired)),
        (long, short, Some(End::LeaseLost)),
        (long, long, None),
    ];
    for (duration, lease, end) in cases {
        let term = Term::new(duration, lease);
        let store = Store::new(0);
        let target = Target::Quota(store.clone());
        let effect = start(target, Arc::new(|_| 50.0), term.clone()).unwrap();
        store.is_used(BUDGET / 2);
        let Some(end) = end else {
            drop(effect);
            assert_eq!((store.reserved(), term.over()), (0, Some(End::Deleted)));
            continue;
        };
        store.is_used(0); // Nobody called
        gone("fault-disk");
        let late = term.elapsed().saturating_sub(short);
        assert!(late < Duration::from_secs(1), "{late:?} late");
        let after = effect.progress();
        assert_eq!((after.requested, after.effective), (0.0, 0.0));
        thread::sleep(Duration::from_millis(50));
        let asked = Instant::now();
        let released = effect.release();
        assert_eq!(released.end, end);
        assert!(released.released < asked, "that was when it was asked for");
        assert_eq!(released.progress.effective, 50.0);
    }
    let store = Store::new(0);
    let fails = move |t: Duration| if t < short { 50.0 } else { panic!("as the test wants it") };
    let effect = start(Target::Quota(store.clone()), Arc::new(fails), term()).unwrap();
    store.is_used(BUDGET / 2);
    store.is_used(0);
    assert_eq!(effect.release().end, End::Failed);
    gone("fault-disk");
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_volume_is_as_full_as_asked_whatever_others_write_and_then_as_before() {
    on_ground(|ground| {
        let (curve, turn) = dial(ground.percent(0.5));
        let effect = start(ground.target(0), curve, term()).unwrap();
        ground.fills(0.5);
        let other = ground.write(4 * MIB).unwrap();
        ground.fills(0.5);
        let others = 4.0 * MIB as f64;
        eventually("made up for", || {
            let held = aside(&effect.progress(), "bytes");
            (held + others - ground.usage().used() as f64).abs() < 1e5 || !ground.own
        });
        turn(ground.percent(0.9));
        ground.fills(0.9);
        drop(other);
        thread::sleep(Duration::from_millis(100));
        ground.fills(0.9);
        turn(ground.percent(0.25));
        ground.fills(0.25);
        thread::sleep(Duration::from_millis(100));
        let seen = effect.progress();
        let df = volume::percent_df(&ground.usage());
        let total = (ground.usage().used() + ground.usage().available) as f64;
        let block = 4096.0 / total * 100.0;
        assert!((seen.effective - seen.requested).abs() <= block.max(0.01), "{seen:?}");
        assert!((seen.effective - df).abs() <= 3e6 / total * 100.0, "{df} for {seen:?}");
        assert!(seen.settled.is_some() && seen.limited_by.is_none(), "{seen:?}");
        let asked = Instant::now();
        let released = effect.release();
        ground.fills(0.0);
        gone("fault-disk");
        assert!(released.released - asked < Duration::from_millis(500));
        adds_up(&released.progress, 0.2); // The dial was turned twice, each between two looks
    });
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_volume_follows_a_ramp_up_and_down_and_the_books_add_up() {
    on_ground(|ground| {
        let part = |t: Duration| 0.9 - (t.as_secs_f64() - 0.75).abs().min(0.75);
        let (low, high) = (ground.percent(0.0), ground.percent(1.0));
        let curve = Arc::new(move |t| low + (high - low) * part(t));
        let effect = start(ground.target(0), curve, term()).unwrap();
        let begun = Instant::now();
        let mut off = Vec::new();
        while begun.elapsed() < Duration::from_millis(1500) {
            thread::sleep(Duration::from_millis(10));
            off.push(ground.off(part(begun.elapsed())));
        }
        let mean = off.iter().sum::<f64>() / off.len() as f64;
        off.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        // Two ticks on a ramp that takes a second are 0.04; a loaded machine adds to some of them.
        let most = off[off.len() * 3 / 4].abs();
        assert!(most <= 0.05 + ground.noise(), "{most} off: {off:?}");
        assert!(mean.abs() <= 0.03 + ground.noise(), "{mean} off in the mean");
        adds_up(&effect.release().progress, 0.03);
        ground.fills(0.0);
    });
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn the_floor_is_left_and_is_given_back_to_others_who_need_it() {
    on_ground(|ground| {
        let left = 8 * MIB;
        let floor = match ground.target(left) {
            Target::RealVolume { floor, .. } => floor.bytes,
            Target::Quota(_) => unreachable!("a ground is a volume"),
        };
        let curve = ground.percent(1.0);
        let effect = start(ground.target(left), Arc::new(move |_| curve), term()).unwrap();
        let available = |what: &str| {
            eventually(what, || {
                let available = ground.usage().available as i64 - floor as i64;
                available.abs() as f64 <= ground.noise() * 64.0 * MIB as f64
            });
        };
        available("filled up to the floor");
        let other = ground.write(4 * MIB).unwrap();
        available("the floor is back");
        drop(other);
        available("filled again");
        thread::sleep(Duration::from_millis(200));
        let last = effect.release().progress;
        assert!(last.shortfall_total > 0.0 && last.settled.is_none(), "{last:?}");
        assert!(last.limited_by.as_ref().unwrap().contains("floor"), "{last:?}");
        adds_up(&last, 0.05);
        ground.fills(0.0);
    });
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_victim_finds_no_space_on_a_volume_that_is_full() {
    on_ground(|ground| {
        let all = ground.percent(1.0);
        let effect = start(ground.target(0), Arc::new(move |_| all), term()).unwrap();
        ground.fills(1.0);
        if ground.own {
            assert_eq!(ground.write(MIB).unwrap_err().kind(), ErrorKind::StorageFull);
        }
        drop(effect);
        ground.fills(0.0);
        ground.write(MIB).unwrap();
    });
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn a_kill_gives_all_back() {
    const CHILD: &str = "TEST_FILL";
    if let Ok(child) = std::env::var(CHILD) {
        // The child of this very test: it fills the volume of its parent until it is killed.
        let (level, folder) = child.split_once(' ').unwrap();
        let level: f64 = level.parse().unwrap();
        let floor = Floor { bytes: 0, part: 0.0 };
        let target = Target::RealVolume { folder: folder.into(), floor };
        let _effect = start(target, Arc::new(move |_| level), term()).unwrap();
        thread::sleep(Duration::from_secs(60));
    }
    on_ground(|ground| {
        let path = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{path}::a_kill_gives_all_back")])
            .env(CHILD, format!("{} {}", ground.percent(0.7), ground.folder.display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        ground.fills(0.7);
        child.kill().unwrap();
        child.wait().unwrap();
        ground.fills(0.0);
        assert_eq!(std::fs::read_dir(&ground.folder).unwrap().count(), 0);
    });
}

#[test]
#[ignore = "heavy: fills and writes; to run by itself until tests/faults does"]
fn refusals_say_what_is_wrong_and_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let usage = volume::Usage::of(folder.path()).unwrap();
    let real = |folder: PathBuf, bytes, part| {
        let target = Target::RealVolume { folder, floor: Floor { bytes, part } };
        start(target, Arc::new(|_| 0.0), term()).err().unwrap()
    };
    let of = |bytes, part| real(folder.path().to_owned(), bytes, part);
    let nowhere = real(folder.path().join("nowhere"), 0, 0.0);
    assert!(matches!(&nowhere, Refusal::System { .. }), "{nowhere:?}");
    assert!(nowhere.to_string().contains("nowhere: No such file"), "{nowhere}");
    let reached = of(usage.size, 0.0);
    assert!(matches!(&reached, Refusal::Floor(_)), "{reached:?}");
    assert!(reached.to_string().contains(&format!("{} are to be left", usage.size)), "{reached}");
    assert_eq!(of(0, 1.5), Refusal::Invalid("floor: expected a part from 0 to 1, got 1.5".into()));
    assert!(of(0, f64::NAN).to_string().contains("NaN"));
    let none = start(Target::Quota(Arc::new(Store::default())), Arc::new(|_| 1.0), term());
    assert!(none.err().unwrap().to_string().contains("expected at least 1"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
