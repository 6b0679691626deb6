//! Each mode bites as strong as asked, follows its curve, and tells what it cannot do.

use super::*;

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn as_many_connections_are_made_per_second_as_asked_for() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let curve: Curve = Arc::new(|t| if t < ms(1500) { 400.0 } else { 0.0 });
    let (flood, _term) = flood(Settings::new(Mode::Connect, vec![reader.address]), curve);
    sleep(1300);
    let busy = flood.progress();
    sleep(500);
    assert!(comes(|| flood.progress().effective == 0.0), "{:?}", flood.progress());
    let taken = reader.taken();
    assert!((540..=640).contains(&taken), "{taken} of 600");
    sleep(200);
    assert_eq!(reader.taken(), taken, "it does not follow the curve");
    let released = flood.release();
    let books = &released.progress;
    assert_eq!(books.effective_total as u64, taken, "{books:?}");
    assert!((books.requested_total - 600.0).abs() < 10.0, "{books:?}");
    add_up(books, 1e-9);
    assert!((200.0..600.0).contains(&busy.effective), "{busy:?}");
    assert!(books.onset.is_some() && books.settled >= books.onset, "{books:?}");
    nothing_left(reader.address.port());
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn as_many_connections_are_held_as_asked_for_and_each_is_established() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let port = reader.address.port();
    let curve: Curve = Arc::new(|t| if t < ms(800) { 60.0 } else { 25.0 });
    let settings = Settings { threads: 2, ..Settings::new(Mode::Hold, vec![reader.address]) };
    let (flood, _term) = flood(settings, curve);
    assert!(comes(|| ours(port, ESTABLISHED) == 60), "{:?}", rows(port));
    assert_eq!(threads(), ["fault-flood-0", "fault-flood-1"]);
    assert_eq!(flood.progress().effective, 60.0);
    assert!(comes(|| flood.progress().settled.is_some()));
    assert!(comes(|| ours(port, ESTABLISHED) == 25), "{:?}", rows(port));
    assert!(comes(|| reader.open() == 25), "{}", reader.open());
    assert_eq!(reader.taken(), 60, "it opens more than it holds");
    let released = flood.release();
    add_up(&released.progress, 0.05);
    assert!(comes(|| reader.open() == 0), "they are not let go");
    nothing_left(port);
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn a_connection_that_the_target_ends_is_made_again() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let take = || {
        let mut taken = Vec::new();
        assert!(comes(|| {
            taken.extend(listener.accept());
            taken.len() == 3
        }));
        taken
    };
    let (flood, _term) = flood(Settings::new(Mode::Hold, vec![address]), constant(3.0));
    drop(take());
    let again = take();
    assert!(comes(|| flood.progress().effective == 3.0));
    let books = flood.release().progress;
    assert_eq!(aside(&books, "reset"), 3.0, "{books:?}");
    drop(again);
    nothing_left(address.port());
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn as_many_bytes_are_sent_per_second_as_asked_for_over_as_many_connections() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let curve: Curve = Arc::new(|t| if t < ms(1000) { 40.0 } else { 10.0 });
    let settings = Settings { flows: 5, ..Settings::new(Mode::Send, vec![reader.address]) };
    let (flood, _term) = flood(settings, curve);
    assert!(comes(|| reader.open() == 5));
    sleep(2000);
    let books = flood.progress();
    let read = reader.read() as f64 / MIB;
    let released = flood.release();
    // 40 MiB in the first second, 10 in each one after it.
    let asked = books.requested_total;
    assert!((48.0..56.0).contains(&asked), "{books:?}");
    assert!((read - asked).abs() < 0.1 * asked, "{read} of {asked}");
    assert!((5.0..20.0).contains(&books.effective), "{books:?}");
    assert!(books.settled.is_some(), "{books:?}");
    add_up(&released.progress, 1e-9);
    assert_eq!(reader.taken(), 5, "connections do not last");
    nothing_left(reader.address.port());
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn of_a_target_that_does_not_read_what_the_kernel_took_counts() {
    let _alone = alone();
    let frozen = Frozen::new(8);
    let port = frozen.address.port();
    let settings = Settings { flows: 2, ..Settings::new(Mode::Send, vec![frozen.address]) };
    let (flood, _term) = flood(settings, constant(100.0));
    assert!(comes(|| flood.progress().limited_by.is_some_and(|l| l.contains("not read"))));
    // Nobody reads: what the kernel took lies in the buffers of both sides.
    let mut lies = 0.0;
    assert!(
        comes(|| {
            let taken = flood.progress().effective_total;
            lies = rows(port).iter().map(|r| (r.unsent + r.unread) as f64 / MIB).sum::<f64>();
            // The queue of a listener counts connections, not bytes: a few.
            taken > 0.0 && (lies - taken).abs() < 0.02 * taken
        }),
        "{lies} of {:?}",
        flood.progress()
    );
    let begun = Instant::now();
    let released = flood.release();
    assert!(begun.elapsed() < ms(300), "{:?}", begun.elapsed());
    assert!(released.progress.shortfall_total > 0.0, "{released:?}");
    add_up(&released.progress, 1e-9);
    nothing_left(port);
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn nobody_who_listens_is_counted_and_not_tried_more_often_than_asked_for() {
    let _alone = alone();
    let address = nobody();
    for mode in [Mode::Connect, Mode::Hold, Mode::Send] {
        let settings = Settings { open_per_second: 100.0, ..Settings::new(mode, vec![address]) };
        let (flood, _term) = flood(settings, constant(100.0));
        sleep(500);
        let books = flood.release().progress;
        let refused = aside(&books, "refused");
        // Sends: 8 connections each 20 ms. The others: 100 in a second.
        let most = if mode == Mode::Send { 240.0 } else { 70.0 };
        assert!((10.0..=most).contains(&refused), "{mode:?}: {books:?}");
        assert_eq!(books.effective_total, 0.0, "{mode:?}: {books:?}");
        assert!(books.onset.is_none() && books.settled.is_none());
        assert!(books.limited_by.as_ref().unwrap().contains("refuses"), "{books:?}");
        assert!(aside(&books, "cpu_seconds") < 0.2, "it spins: {books:?}");
        add_up(&books, 1e-9);
        nothing_left(address.port());
    }
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn a_ceiling_holds_and_is_told() {
    let _alone = alone();
    let reader = Reader::new("127.0.0.1:0");
    let port = reader.address.port();
    let ceilings = Ceilings { connections_per_second: 100.0, held: 7, mib_per_second: 1.0 };
    for (mode, asked) in [(Mode::Connect, 1e300), (Mode::Hold, 1000.0), (Mode::Send, 1e9)] {
        let settings = Settings { ceilings, ..Settings::new(mode, vec![reader.address]) };
        let before = (reader.taken(), reader.read());
        let (flood, _term) = flood(settings, constant(asked));
        let (mut most, begun) = (0, Instant::now());
        for _ in 0..50 {
            sleep(10);
            most = most.max(ours(port, ESTABLISHED));
        }
        let books = flood.release().progress;
        let seconds = begun.elapsed().as_secs_f64();
        let (taken, read) = (reader.taken() - before.0, reader.read() - before.1);
        let part = |of: u64, most: f64| (0.4..1.05).contains(&(of as f64 / most / seconds));
        match mode {
            Mode::Connect => assert!(part(taken, 100.0), "{taken}: {books:?}"),
            Mode::Hold => assert_eq!((most, taken), (7, 7), "{books:?}"),
            Mode::Send => assert!(part(read, MIB), "{read}: {books:?}"),
        }
        assert!(books.limited_by.as_ref().unwrap().contains("ceiling"), "{books:?}");
        add_up(&books, 1e-6);
    }
    nothing_left(port);
}

#[test]
#[ignore = "heavy: burns and floods; to run by itself until tests/faults does"]
fn targets_are_hit_in_turn_and_may_be_ipv6() {
    let _alone = alone();
    let readers = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].map(Reader::new);
    let targets = readers.iter().map(|r| r.address).collect();
    let (flood, _term) = flood(Settings::new(Mode::Hold, targets), constant(12.0));
    for reader in &readers {
        assert!(comes(|| reader.open() == 4), "{} at {}", reader.open(), reader.address);
    }
    drop(flood);
    readers.iter().for_each(|r| nothing_left(r.address.port()));
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_sent() {
    let _alone = alone();
    let here = vec![SocketAddr::from(([127, 0, 0, 1], 9))];
    let right = |mode| Settings::new(mode, here.clone());
    let with = |ceilings| Settings { ceilings, ..right(Mode::Connect) };
    let hard = Ceilings::HARD;
    let outside = vec![SocketAddr::from(([8, 8, 8, 8], 80))];
    let mixed = vec![here[0], outside[0]];
    let allowed = vec![IpAddr::from([192, 0, 2, 9])];
    let rows_of = |settings: Settings, named: &'static str| (settings, named);
    let table = [
        rows_of(Settings { targets: vec![], ..right(Mode::Connect) }, "at least one address"),
        rows_of(Settings { targets: outside, ..right(Mode::Connect) }, "8.8.8.8:80"),
        rows_of(Settings { targets: mixed, allowed, ..right(Mode::Send) }, "192.0.2.9"),
        rows_of(Settings { threads: 0, ..right(Mode::Hold) }, "threads: expected 1 to 8, got 0"),
        rows_of(Settings { threads: 9, ..right(Mode::Hold) }, "threads: expected 1 to 8, got 9"),
        rows_of(Settings { flows: 257, ..right(Mode::Send) }, "flows: expected 1 to 256, got 257"),
        rows_of(Settings { threads: 4, flows: 3, ..right(Mode::Send) }, "flows: expected 4 to 256"),
        rows_of(Settings { open_per_second: 0.0, ..right(Mode::Hold) }, "open_per_second"),
        rows_of(Settings { open_per_second: f64::NAN, ..right(Mode::Hold) }, "open_per_second"),
        rows_of(with(Ceilings { connections_per_second: 50_001.0, ..hard }), "at most 50000"),
        rows_of(with(Ceilings { held: 20_001, ..hard }), "held: expected 1 to 20000, got 20001"),
        rows_of(with(Ceilings { mib_per_second: 4097.0, ..hard }), "at most 4096, got 4097"),
    ];
    for (settings, named) in table {
        let term = Term::new(LONG, LONG);
        let refused = NetworkFlood::start(settings, constant(10.0), term.clone()).err();
        let Some(Refusal::Invalid(why)) = refused else { panic!("{named}: {refused:?}") };
        assert!(why.contains(named), "{named} is not in: {why}");
        assert_eq!(term.over(), None, "the term is not the flood's to end");
        assert!(rows(80).iter().all(|r| r.remote != 80) && threads().is_empty());
    }
}
