//! The limit of open files. It is one of the whole process, so each of these runs its part in a
//! process of its own.

use std::fs::File;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;

const PART: &str = "FLOOD_TEST_PART";

/// Runs `part` in a process of its own, in which nothing but the test of this name runs.
fn in_a_process_of_its_own(name: &str, part: impl FnOnce()) {
    if std::env::var(PART).is_ok_and(|p| p == name) {
        return part();
    }
    let module = module_path!().split_once("::").unwrap().1;
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this);
    child
        .args([&format!("{module}::{name}"), "--exact", "--include-ignored", "--nocapture"])
        .env(PART, name);
    let out = child.output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && told.contains("1 passed"), "{out:?}");
}

fn limit_files(soft: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn files_are_kept_free_for_the_process_though_it_is_the_target_itself() {
    in_a_process_of_its_own(
        "files_are_kept_free_for_the_process_though_it_is_the_target_itself",
        || {
            let reader = Reader::new("127.0.0.1:0");
            limit_files(400);
            let settings = Settings::new(Mode::Hold, vec![reader.address]);
            let (flood, _term) = flood(settings, constant(1000.0));
            let (mut most, mut held) = (0, Vec::new());
            for _ in 0..100 {
                sleep(10);
                most = most.max(open_files());
                held.push(ours(reader.address.port(), ESTABLISHED));
            }
            // Between two looks there may be some more than 400 - 256.
            assert!((120..=250).contains(&most), "{most}");
            // Each takes a file on both sides.
            assert!(held[50..].iter().all(|n| (60..75).contains(n)), "{held:?}");
            let told = flood.progress().limited_by.unwrap();
            assert!(told.contains("RLIMIT_NOFILE of 400"), "{told}");
            drop(flood);
            assert!(comes(|| open_files() < 20), "{}", open_files());
            limit_files(256);
            let settings = Settings::new(Mode::Connect, vec![reader.address]);
            let refused = NetworkFlood::start(settings, constant(1.0), Term::new(LONG, LONG)).err();
            let Some(Refusal::Floor(why)) = refused else { panic!("{refused:?}") };
            assert!(why.contains("RLIMIT_NOFILE is 256") && why.contains("got 0"), "{why}");
        },
    );
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn without_files_it_backs_off_says_so_and_goes_on_when_there_are_some_again() {
    in_a_process_of_its_own(
        "without_files_it_backs_off_says_so_and_goes_on_when_there_are_some_again",
        || {
            let frozen = Frozen::new(1000);
            limit_files(400);
            let settings = Settings::new(Mode::Connect, vec![frozen.address]);
            let (flood, _term) = flood(settings, constant(100.0));
            assert!(comes(|| flood.progress().onset.is_some()));
            // The flood still gives back a few of its own: long enough to get those too.
            let (mut hoard, begun) = (Vec::new(), Instant::now());
            while begun.elapsed() < ms(500) {
                match File::open("/dev/null") {
                    Ok(file) => hoard.push(file),
                    Err(_) => sleep(1),
                }
            }
            let before = flood.progress();
            sleep(1000);
            let books = flood.progress();
            let since = |name| aside(&books, name) - aside(&before, name);
            let (tried, cpu) = (since("no_file"), since("cpu_seconds"));
            assert!((3.0..=15.0).contains(&tried) && cpu < 0.3, "it spins: {books:?}");
            assert_eq!(books.effective, 0.0, "{books:?}");
            assert!(books.limited_by.as_ref().unwrap().contains("EMFILE"), "{books:?}");
            drop(hoard);
            assert!(comes(|| flood.progress().effective > 50.0), "{:?}", flood.progress());
            let books = flood.release().progress;
            assert!(books.shortfall_total > 60.0, "{books:?}");
            add_up(&books, 1e-9);
        },
    );
}
