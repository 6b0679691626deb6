//! Each test that burns runs alone in a process of its own, since the ledger holds the total of the
//! process, other tests included. It judges by what the kernel says of the process and its threads;
//! what the kernel made the burners wait for a core is allowed for, no more.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::*;

const LONG: Duration = Duration::from_secs(3600);
/// Core seconds by which a phase of about a second may be off: a slot, and the overhead of the
/// test.
const NEAR: f64 = 0.05;
/// A thread that is to go is gone by then, also on a full machine.
const GONE: Duration = Duration::from_secs(3);
const ALONE: &str = "MOCKS3_TEST_ALONE";

/// Runs the body in a new process that runs only the named test of this file.
fn alone(name: &str, body: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([&format!("{path}::{name}"), "--exact", "--include-ignored", "--nocapture"])
        .env(ALONE, "1");
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

fn steady(cores: f64) -> Curve {
    Arc::new(move |_| cores)
}

fn start(cores: f64, curve: Curve, term: &Term) -> Box<CpuSpike> {
    let settings = Settings { cores, crowd: 1, nice: 0 };
    Box::new(CpuSpike::start(settings, curve, term.clone()).unwrap())
}

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The burner threads by the kernel: what each used and waited for a core (s), and its nice value.
fn burners() -> Vec<(f64, f64, i32)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        if !read("comm").starts_with("fault-cpu-") {
            continue;
        }
        let times = read("schedstat");
        let mut times = times.split_whitespace().map(|n| n.parse::<f64>().unwrap() / 1e9);
        let stat = read("stat");
        let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(16).map(|n| n.parse().unwrap());
        if let (Some(used), Some(waited), Some(nice)) = (times.next(), times.next(), nice) {
            found.push((used, waited, nice));
        }
    }
    found
}

/// What the process used and what its burners used and waited since it was taken.
struct Meter {
    at: Instant,
    cpu: u64,
    burners: (f64, f64),
}

impl Meter {
    fn new() -> Meter {
        Meter { at: Instant::now(), cpu: process_cpu_ns(), burners: Meter::sums() }
    }

    fn sums() -> (f64, f64) {
        burners().iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1))
    }

    fn used(&self) -> f64 {
        (process_cpu_ns() - self.cpu) as f64 / 1e9
    }

    fn burnt(&self) -> f64 {
        Meter::sums().0 - self.burners.0
    }

    /// The process used so many cores since, less only what the burners had to wait.
    fn assert_cores(&self, cores: f64) {
        let asked = cores * self.at.elapsed().as_secs_f64();
        let (used, waited) = (self.used(), Meter::sums().1 - self.burners.1);
        assert!(used <= asked + NEAR, "used {used} of {asked}");
        assert!(used + waited >= asked - NEAR, "used {used} of {asked}, waited {waited}");
    }
}

/// All burners leave in time, and then nothing is burnt.
fn assert_gone() {
    let begun = Instant::now();
    while !burners().is_empty() {
        assert!(begun.elapsed() < GONE, "still there: {:?}", burners());
        sleep(2);
    }
    let cpu = Meter::new();
    sleep(100);
    assert!(cpu.used() < 0.02, "used {}", cpu.used());
}

/// CPU-2.
fn assert_adds_up(progress: &Progress, owed: f64) {
    let excess = progress.aside.iter().find(|(name, _)| *name == "excess_cpu_s").unwrap().1;
    let sum = progress.effective_total + progress.shortfall_total - excess;
    assert!((progress.requested_total - sum).abs() <= owed + 1e-6, "{progress:?}");
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_bites_as_hard_as_asked_and_lets_go_of_everything() {
    alone("it_bites_as_hard_as_asked_and_lets_go_of_everything", || {
        let (before, cpu) = (Instant::now(), process_cpu_ns());
        let spike = start(0.5, steady(0.5), &Term::new(LONG, LONG));
        sleep(20);
        let meter = Meter::new();
        sleep(1000);
        meter.assert_cores(0.5);
        let progress = spike.progress();
        assert_eq!(progress.requested, 0.5);
        assert_adds_up(&progress, 0.05);
        assert!(progress.onset.unwrap() >= before);
        let released = spike.release();
        assert!(burners().is_empty());
        assert_gone();
        let used = (process_cpu_ns() - cpu) as f64 / 1e9;
        let progress = released.progress;
        assert!((progress.effective_total - used).abs() < 0.03, "{progress:?} {used}");
        assert_adds_up(&progress, 0.0);
        assert_eq!((progress.requested, progress.effective), (0.0, 0.0));
        assert_eq!((progress.aside[0].0, released.end), ("burnt_cpu_s", End::Deleted));
        let burnt = progress.aside[0].1;
        assert!(burnt > 0.0 && burnt <= used, "{burnt} of {used}");
        assert!(released.stopped <= released.released && released.released <= Instant::now());
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_follows_a_curve_that_changes() {
    alone("it_follows_a_curve_that_changes", || {
        let levels = [0.1, 0.6, 0.0, 0.3];
        let curve = move |t: Duration| levels[(t.as_secs_f64() / 0.6) as usize % 4];
        let spike = start(1.0, Arc::new(curve), &Term::new(LONG, LONG));
        let begun = Instant::now();
        for (n, level) in levels.iter().enumerate() {
            let meter = Meter::new();
            let end = begun + Duration::from_millis(600) * (n as u32 + 1);
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            meter.assert_cores(*level);
        }
        assert_adds_up(&spike.progress(), 0.05);
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn what_the_service_uses_itself_is_part_of_the_total() {
    alone("what_the_service_uses_itself_is_part_of_the_total", || {
        let spike = start(0.6, steady(0.6), &Term::new(LONG, LONG));
        let meter = Meter::new();
        let mut own = 0;
        while meter.at.elapsed() < Duration::from_millis(1500) {
            let (begun, cpu) = (Instant::now(), thread_cpu_ns());
            while begun.elapsed() < Duration::from_millis(3) {}
            own += thread_cpu_ns() - cpu;
            sleep(7);
        }
        meter.assert_cores(0.6);
        let (own, burnt) = (own as f64 / 1e9, meter.burnt());
        assert!(own > 0.0 && burnt + own <= 0.6 * meter.at.elapsed().as_secs_f64() + NEAR);
        drop(spike);
        assert_gone();
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn where_the_service_alone_uses_more_the_burners_idle_and_say_so() {
    alone("where_the_service_alone_uses_more_the_burners_idle_and_say_so", || {
        let spike = start(0.02, steady(0.02), &Term::new(LONG, LONG));
        let spin = |ms| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(ms) {}
        };
        spin(500);
        let meter = Meter::new();
        spin(500);
        let progress = spike.progress();
        assert!(meter.burnt() < 0.02, "{}", meter.burnt()); // the looks of 77 slots
        assert_eq!(progress.limited_by.as_deref(), Some("the service itself uses more"));
        assert!(progress.effective > progress.requested, "{progress:?}");
        assert_adds_up(&progress, 0.05);
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn two_faults_share_one_ledger_and_the_one_that_is_over_leaves_the_other_its_own() {
    alone("two_faults_share_one_ledger_and_the_one_that_is_over_leaves_the_other_its_own", || {
        let short = Term::new(Duration::from_millis(900), LONG);
        let stays = start(0.3, steady(0.3), &Term::new(LONG, LONG));
        let settings = Settings { cores: 0.4, crowd: 3, nice: 19 };
        let goes = CpuSpike::start(settings, steady(0.4), short.clone()).unwrap();
        sleep(20);
        let mut nices: Vec<i32> = burners().iter().map(|b| b.2).collect();
        nices.sort();
        let inherited = burner::nice(0); // 19 where tests run at the lowest priority
        assert_eq!(nices, [inherited, 19, 19, 19]); // CPU-3
        let meter = Meter::new();
        sleep(700);
        meter.assert_cores(0.7);
        short.wait(Instant::now() + LONG); // nobody else looks
        let begun = Instant::now();
        while burners().len() > 1 {
            assert!(begun.elapsed() < GONE, "{:?}", burners());
            sleep(5);
        }
        let meter = Meter::new();
        sleep(700);
        meter.assert_cores(0.3);
        for (spike, owed) in [(&*stays, 0.05), (&goes, 0.0)] {
            assert_adds_up(&spike.progress(), owed);
        }
        assert_eq!(Box::new(goes).release().end, End::Expired);
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_ends_by_its_deadline_by_a_lost_lease_and_by_being_dropped() {
    alone("it_ends_by_its_deadline_by_a_lost_lease_and_by_being_dropped", || {
        let short = Duration::from_millis(150);
        for (duration, lease, end) in [(short, LONG, End::Expired), (LONG, short, End::LeaseLost)] {
            let begun = Instant::now();
            let spike = start(0.4, steady(0.4), &Term::new(duration, lease));
            sleep(50);
            assert!(!burners().is_empty());
            assert_gone(); // CPU-1: nobody calls anything
            assert!(begun.elapsed() >= short, "{:?}", begun.elapsed());
            assert_eq!(spike.progress().requested, 0.0);
            let released = spike.release();
            assert_eq!(released.end, end);
            assert!(released.stopped >= begun + short && released.stopped < begun + GONE);
        }
        let spike = start(0.4, steady(0.4), &Term::new(LONG, LONG));
        sleep(50);
        assert!(!burners().is_empty());
        drop(spike);
        assert!(burners().is_empty());
        assert_gone();
        assert!(
            std::panic::catch_unwind(|| {
                let _spike = start(0.4, steady(0.4), &Term::new(LONG, LONG));
                panic!("of the test");
            })
            .is_err()
        );
        assert!(burners().is_empty());
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_stops_soon_whatever_is_asked_for_and_crowded_as_it_is() {
    alone("it_stops_soon_whatever_is_asked_for_and_crowded_as_it_is", || {
        for asked in [0.0, 1e-9, 0.3, 1e300, f64::NAN] {
            for nice in [0, 19] {
                let settings = Settings { cores: 0.5, crowd: CROWD, nice };
                let term = Term::new(LONG, LONG);
                let spike = CpuSpike::start(settings, steady(asked), term).unwrap();
                sleep(60);
                let begun = Instant::now();
                let released = Box::new(spike).release();
                assert!(begun.elapsed() < GONE, "{asked}: {:?}", begun.elapsed());
                assert!(burners().is_empty());
                let few = released.progress.effective_total < 0.06;
                assert!(few || asked > 0.1, "{asked}: {:?}", released.progress);
            }
        }
    });
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn a_curve_that_panics_ends_its_own_fault_as_failed_and_no_other() {
    alone("a_curve_that_panics_ends_its_own_fault_as_failed_and_no_other", || {
        let other = start(0.3, steady(0.3), &Term::new(LONG, LONG));
        let curve = |t: Duration| if t.as_millis() < 50 { 0.1 } else { panic!("of the test") };
        let spike = start(0.1, Arc::new(curve), &Term::new(LONG, LONG));
        let begun = Instant::now();
        while burners().len() > 1 {
            assert!(begun.elapsed() < GONE);
            sleep(5);
        }
        let meter = Meter::new();
        sleep(300);
        meter.assert_cores(0.3);
        assert_eq!(spike.release().end, End::Failed);
        assert_eq!(other.release().end, End::Deleted);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_would_be_right() {
    let most = usable_cores();
    let fine = Settings { cores: 0.5, crowd: 1, nice: 0 };
    assert_eq!(fine.check(), Ok(()));
    for (settings, why) in [
        (
            Settings { cores: 0.0, ..fine },
            format!("cores: expected more than 0, up to {most}, got 0"),
        ),
        (Settings { cores: f64::NAN, ..fine }, format!("up to {most}, got NaN")),
        (Settings { cores: most as f64 + 0.1, ..fine }, format!("up to {most}, got {most}.1")),
        (Settings { crowd: 0, ..fine }, "crowd: expected 1 to 8, got 0".into()),
        (Settings { crowd: 9, ..fine }, "crowd: expected 1 to 8, got 9".into()),
        (Settings { nice: -1, ..fine }, "nice: expected 0 to 19, got -1".into()),
        (Settings { nice: 20, ..fine }, "nice: expected 0 to 19, got 20".into()),
    ] {
        let term = Term::new(LONG, LONG);
        let refused = CpuSpike::start(settings, steady(0.1), term.clone()).map(|_| ()).unwrap_err();
        assert!(refused.to_string().ends_with(&why), "{refused}");
        assert_eq!(term.over(), None);
    }
    let read: Settings = serde_json::from_str(r#"{"cores": 0.5}"#).unwrap();
    assert_eq!(read, fine);
}
