//! A flood ends, however it ends, soon, and gives everything back.

use super::*;

const MODES: [Mode; 3] = [Mode::Connect, Mode::Hold, Mode::Send];

/// Waits until it is over by itself, and looks that nothing is left though nobody released it.
fn ends_by_itself(flood: &NetworkFlood, port: u16) {
    assert!(comes(|| threads().is_empty()), "{:?}", threads());
    let books = flood.progress();
    nothing_left(port);
    sleep(30);
    assert_eq!(flood.progress(), books, "it goes on");
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_ends_by_its_deadline_and_by_a_lost_lease_though_nobody_calls() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    for mode in MODES {
        for (duration, lease, why) in
            [(ms(150), LONG, End::Expired), (LONG, ms(150), End::LeaseLost)]
        {
            let begun = Instant::now();
            let settings = Settings::new(mode, vec![reader.address]);
            let term = Term::new(duration, lease);
            let flood = NetworkFlood::start(settings, constant(20.0), term).unwrap();
            assert!(comes(|| flood.progress().onset.is_some()), "{mode:?} does not bite");
            ends_by_itself(&flood, reader.address.port());
            let released = Box::new(flood).release();
            assert_eq!(released.end, why, "{mode:?}");
            let late = released.released.duration_since(begun).saturating_sub(ms(150));
            assert!(released.stopped <= released.released && late < ms(200), "{late:?}");
            add_up(&released.progress, 0.2);
        }
    }
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn dropping_it_ends_it() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let (flood, term) = flood(Settings::new(Mode::Hold, vec![reader.address]), constant(20.0));
    assert!(comes(|| reader.open() == 20));
    drop(flood);
    assert_eq!(term.over(), Some(End::Deleted));
    nothing_left(reader.address.port());
    assert!(comes(|| reader.open() == 0));
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn a_thread_that_panics_gives_everything_back_and_says_so() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let curve: Curve = Arc::new(|t| if t < ms(200) { 20.0 } else { panic!("part of the test") });
    let settings = Settings { threads: 2, ..Settings::new(Mode::Hold, vec![reader.address]) };
    let (flood, _term) = flood(settings, curve);
    assert!(comes(|| reader.open() == 20));
    ends_by_itself(&flood, reader.address.port());
    assert!(comes(|| reader.open() == 0));
    assert_eq!(flood.release().end, End::Failed);
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn it_is_stopped_at_once_at_any_rate() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    for mode in MODES {
        for rate in [0.0, 1e-9, 30.0, f64::NAN, f64::MAX] {
            let ceilings =
                Ceilings { connections_per_second: 2000.0, held: 500, mib_per_second: 50.0 };
            let settings = Settings { ceilings, ..Settings::new(mode, vec![reader.address]) };
            let (flood, _term) = flood(settings, constant(rate));
            sleep(40);
            let begun = Instant::now();
            let books = flood.release().progress;
            // 10 ms on a machine that has a core to spare.
            assert!(begun.elapsed() < ms(100), "{mode:?} at {rate}: {:?}", begun.elapsed());
            add_up(&books, if mode == Mode::Hold { 0.2 } else { 1e-6 });
        }
    }
    nothing_left(reader.address.port());
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn a_target_that_is_frozen_does_not_hold_up_a_stop() {
    let _alone = alone();
    for mode in [Mode::Connect, Mode::Hold] {
        let frozen = Frozen::new(4);
        let port = frozen.address.port();
        let (flood, _term) = flood(Settings::new(mode, vec![frozen.address]), constant(300.0));
        let told = || flood.progress().limited_by.unwrap_or_default();
        assert!(comes(|| told().contains("does not")), "{mode:?}: {}", told());
        let books = flood.progress();
        if mode == Mode::Hold {
            assert_eq!(ours(port, ESTABLISHED) as f64, books.effective, "{books:?}");
            assert!((1.0..10.0).contains(&books.effective), "{books:?}");
            assert!(books.settled.is_none());
        }
        let begun = Instant::now();
        let released = flood.release();
        assert!(begun.elapsed() < ms(300), "{mode:?}: {:?}", begun.elapsed());
        assert!(aside(&released.progress, "timed_out") > 0.0, "{released:?}");
        assert!(released.progress.shortfall_total > 0.0, "{released:?}");
        add_up(&released.progress, 0.05);
        nothing_left(port);
    }
}
