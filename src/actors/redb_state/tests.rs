//! What holds for every schema, on the smallest one; and a check that each schema runs on its own.

use std::fmt::Debug;

use proptest::prelude::*;
use redb::Table;
use tempfile::TempDir;

use super::*;
use crate::replica::Machine as _;
use std::sync::Arc;

/// A machine on a new or known file.
pub fn open<S: Schema>(path: &Path) -> Machine<S> {
    Machine::new(Arc::new(Store::open(path).unwrap())).unwrap()
}

/// The file as a crash leaves it: what was written so far, synced or not.
fn crash(path: &Path) -> PathBuf {
    let left = path.with_extension("crashed");
    std::fs::copy(path, &left).unwrap();
    left
}

/// Applies a log from what was applied on, in batches of a size; the mark is the last index.
pub fn run<S>(machine: &mut Machine<S>, log: &[Keyed<S::Command>], size: usize) -> Vec<S::Outcome>
where
    S: Schema<Command: Clone>,
{
    let mut outcomes = Vec::new();
    for batch in log[machine.applied() as usize..].chunks(size) {
        let mark = (machine.applied() + batch.len() as u64).to_le_bytes();
        outcomes.extend(machine.apply(machine.applied() + 1, batch, &mark).unwrap());
    }
    outcomes
}

/// The same commands give the same outcomes and the same state: in any batches, over a crash, and
/// from an image on (STATE-1, STATE-3, STATE-4).
pub fn comes_to_the_same<S>(log: &[Keyed<S::Command>])
where
    S: Schema<Command: Clone, Outcome: PartialEq + Debug>,
{
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (half, all) = (log.len() / 2, log.len() as u64);
    let mut one = open::<S>(&path("one"));
    let mut expected = run(&mut one, &log[..half], 1);
    let mark = (one.exporter().unwrap())(&path("image")).unwrap();
    assert_eq!(mark, one.mark().unwrap());
    let at_half = one.store().digest().unwrap();
    expected.extend(run(&mut one, log, 1));
    let digest = one.store().digest().unwrap();
    assert!(digest != at_half || half == log.len(), "the digest does not tell states apart");

    let mut other = open::<S>(&path("other"));
    run(&mut other, &log[..half.min(3)], 2);
    other.import(&path("image")).unwrap();
    assert_eq!((other.store().digest().unwrap(), other.mark().unwrap()), (at_half, mark));
    assert_eq!(other.applied(), half as u64);
    assert_eq!(run(&mut other, log, 7), expected[half..], "from an image on");
    assert_eq!(other.store().digest().unwrap(), digest, "from an image on");

    let mut crashed = open::<S>(&path("third"));
    run(&mut crashed, &log[..half], 5);
    crashed.sync().unwrap();
    run(&mut crashed, log, 4);
    assert_eq!(crashed.store().digest().unwrap(), digest, "in other batches");
    let mut again = open::<S>(&crash(&path("third")));
    let found = again.applied();
    assert!((half as u64..=all).contains(&found), "{found} of {all}, {half} synced");
    let mark = if found == 0 { Vec::new() } else { found.to_le_bytes().to_vec() };
    assert_eq!(again.mark().unwrap(), mark, "STATE-1");
    assert_eq!(run(&mut again, log, 3), expected[found as usize..], "after a crash");
    assert_eq!(again.store().digest().unwrap(), digest, "after a crash");
}

/// A sum of small numbers.
#[derive(Debug)]
struct Sum;

const SUM: TableDefinition<(), u64> = TableDefinition::new("sum");

impl Schema for Sum {
    type Command = u64;
    type Outcome = Result<u64, String>;
    type Tables<'tx> = Table<'tx, (), u64>;

    const FORMAT: &'static str = "sum 1";
    const KEEP_COMMANDS: u64 = 10;
    const KEEP_BYTES: u64 = 120;

    fn each_table(each: &mut impl EachTable) -> Result<(), Error> {
        each.table(SUM)
    }

    fn open(tx: &WriteTransaction) -> Result<Table<'_, (), u64>, Error> {
        Ok(tx.open_table(SUM)?)
    }

    fn apply(sum: &mut Table<'_, (), u64>, index: u64, n: &u64) -> Result<Self::Outcome, Error> {
        if *n >= 100 {
            return Ok(Err(format!("{n} is too much at {index}")));
        }
        let total = sum.get(())?.map_or(0, |row| row.value()) + n;
        sum.insert((), total)?;
        Ok(Ok(total))
    }

    fn close(_: Table<'_, (), u64>) -> Result<(), Error> {
        Ok(())
    }

    fn used_bytes(_: &ReadTransaction) -> Result<u64, Error> {
        Ok(0)
    }
}

fn add(key: u128, command: u64) -> Keyed<u64> {
    Keyed { key, command }
}

fn total(store: &Store<Sum>) -> u64 {
    let sum = |tx: &ReadTransaction| Ok(tx.open_table(SUM)?.get(())?.map_or(0, |row| row.value()));
    store.read(sum).unwrap()
}

fn step(machine: &mut Machine<Sum>, command: Keyed<u64>) -> Result<u64, String> {
    machine.apply(machine.applied() + 1, &[command], b"mark").unwrap().remove(0)
}

#[test]
fn a_command_that_comes_again_is_answered_as_the_first_time_until_that_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let mut sum = open::<Sum>(&dir.path().join("sum"));
    let refused = || Err("100 is too much at 2".to_owned());
    assert_eq!(step(&mut sum, add(7, 1)), Ok(1));
    assert_eq!(step(&mut sum, add(8, 100)), refused());
    assert_eq!(step(&mut sum, add(7, 1)), Ok(1));
    assert_eq!(step(&mut sum, add(8, 5)), refused(), "ANSWER-1");
    let batch = [add(9, 10), add(9, 10), add(0, 20), add(0, 20)];
    let outcomes = sum.apply(5, &batch, b"").unwrap();
    assert_eq!(outcomes, [Ok(11), Ok(11), Ok(31), Ok(51)], "in one batch, and key 0 is none");
    drop(sum);
    let mut sum = open::<Sum>(&dir.path().join("sum"));
    assert_eq!(step(&mut sum, add(7, 1)), Ok(1), "also after a restart");
    step(&mut sum, add(0, 0)).unwrap();
    assert_eq!((sum.applied(), step(&mut sum, add(7, 1))), (10, Ok(52)), "1 is no longer kept");
    assert_eq!((sum.applied(), step(&mut sum, add(8, 5))), (11, Ok(57)), "nor is 2");
    assert_eq!(step(&mut sum, add(9, 5)), Ok(11), "5 is");
    assert_eq!(step(&mut sum, add(7, 1)), Ok(52), "the key counts from when it was applied anew");
}

#[test]
fn kept_outcomes_stay_under_their_bytes_and_the_oldest_go_first() {
    let dir = TempDir::new().unwrap();
    let mut sum = open::<Sum>(&dir.path().join("sum"));
    for key in 1..=6 {
        step(&mut sum, add(key, 1_000_000 + key as u64)).unwrap_err();
    }
    let place = sum.store().read(read_place).unwrap();
    assert!(place.answer_bytes > 40 && place.answer_bytes <= Sum::KEEP_BYTES, "{place:?}");
    assert_eq!(step(&mut sum, add(6, 1)), Err("1000006 is too much at 6".to_owned()));
    assert_eq!(step(&mut sum, add(1, 1)), Ok(1), "forgotten");
}

#[test]
fn what_was_synced_is_on_disk_with_its_mark_and_commands_must_follow_on() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sum");
    let mut sum = open::<Sum>(&path);
    sum.apply(1, &[add(0, 1), add(0, 2)], b"first").unwrap();
    sum.apply(3, &[], b"second").unwrap(); // entries without a command
    assert_eq!((sum.applied(), sum.mark().unwrap()), (2, b"second".to_vec()));
    sum.idle();
    let left = open::<Sum>(&crash(&path));
    assert_eq!((left.applied(), left.mark().unwrap()), (2, b"second".to_vec()));
    let twice = sum.apply(2, &[add(0, 1)], b"third").unwrap_err();
    assert!(matches!(twice, StoreError::Order { first: 2, applied: 2 }), "{twice}");
    sum.apply(9, &[add(0, 4)], b"third").unwrap();
    assert_eq!((sum.applied(), total(sum.store())), (9, 7), "an index may be left out");
}

#[test]
fn there_is_a_sync_after_some_transactions_though_nobody_asks() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sum");
    let mut sum = open::<Sum>(&path);
    for _ in 0..1_500 {
        step(&mut sum, add(0, 1)).unwrap();
    }
    let left = open::<Sum>(&crash(&path));
    assert!((1_000..=1_500).contains(&left.applied()), "{} of 1500", left.applied());
    assert_eq!(total(left.store()), left.applied());
}

#[test]
fn images_are_made_and_taken_beside_readers_who_see_one_state() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (mut sum, mut other) = (open::<Sum>(&path("sum")), open::<Sum>(&path("other")));
    std::fs::write(path("image"), b"whatever stood there").unwrap();
    step(&mut sum, add(1, 5)).unwrap();
    let exporter = sum.exporter().unwrap();
    step(&mut sum, add(2, 6)).unwrap();
    let export = std::thread::spawn({
        let to = path("image");
        move || exporter(&to).unwrap()
    });
    for key in 3..=52 {
        step(&mut sum, add(key, 1)).unwrap();
    }
    assert_eq!(export.join().unwrap(), b"mark");
    step(&mut other, add(0, 99)).unwrap();
    let store = other.store().clone();
    let before = store.read(|tx| {
        other.import(&path("image")).unwrap();
        Ok(tx.open_table(SUM)?.get(())?.map(|row| row.value()))
    });
    assert_eq!(before.unwrap(), Some(99), "STATE-5");
    let imported = other.applied();
    assert!((1..=52).contains(&imported), "{imported}");
    let sums: Vec<u64> = [0, 5, 11].into_iter().chain(12..).take(53).collect();
    assert_eq!(total(&store), sums[imported as usize], "STATE-4");
    let again = step(&mut other, add(imported.into(), 50));
    assert_eq!(again, Ok(sums[imported as usize]), "keys come with the image");
    let left = open::<Sum>(&crash(&path("other")));
    assert_eq!(left.applied(), imported, "an import is on disk");
}

/// Imports damaged bytes; the state stays, or is the one that was exported.
fn import_damaged(bytes: &[u8]) -> Result<(), StoreError> {
    let dir = TempDir::new().unwrap();
    let (mut sum, mut good) =
        (open::<Sum>(&dir.path().join("a")), open::<Sum>(&dir.path().join("b")));
    step(&mut sum, add(3, 41)).unwrap();
    let before = sum.store().digest().unwrap();
    let path = dir.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    let imported = sum.import(&path);
    let expected = if imported.is_ok() {
        run(&mut good, &exported(), 1);
        good.store().digest().unwrap()
    } else {
        before
    };
    assert_eq!(sum.store().digest().unwrap(), expected);
    step(&mut sum, add(0, 1)).unwrap();
    imported
}

fn exported() -> Vec<Keyed<u64>> {
    (1..30).map(|n| add(n, n as u64)).collect()
}

fn image(dir: &TempDir) -> Vec<u8> {
    let mut sum = open::<Sum>(&dir.path().join("sum"));
    run(&mut sum, &exported(), 1);
    sum.exporter().unwrap()(&dir.path().join("image")).unwrap();
    std::fs::read(dir.path().join("image")).unwrap()
}

#[test]
fn what_is_no_image_or_one_of_something_else_is_refused_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let image = image(&dir);
    import_damaged(&image).unwrap();
    for bytes in [b"".as_slice(), b"garbage", &[0; 100_000], &image[..image.len() / 2]] {
        import_damaged(bytes).unwrap_err();
    }
    let path = dir.path().join("other");
    drop(open::<Sum>(&path));
    let tx = Database::open(&path).unwrap().begin_write().unwrap();
    tx.open_table(HEAD).unwrap().insert("format", &b"sum 0"[..]).unwrap();
    tx.commit().unwrap();
    let other = import_damaged(&std::fs::read(&path).unwrap()).unwrap_err();
    assert!(matches!(&other, StoreError::Format { found, .. } if found == "sum 0"), "{other}");
    let found = Store::<Sum>::open(&path).unwrap_err().to_string();
    assert!(found.contains("sum 0") && found.contains("other"), "{found}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn an_image_with_a_flipped_bit_gives_its_state_or_is_refused(at in 0.0..1.0, bit in 0..8_u8) {
        let dir = TempDir::new().unwrap();
        let mut bytes = image(&dir);
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        let _ = import_damaged(&bytes);
    }

    #[test]
    fn sums_come_to_the_same(
        log in proptest::collection::vec((0..6_u128, 90..102_u64), 2..60)
    ) {
        let log: Vec<_> = log.into_iter().map(|(key, n)| add(key, n)).collect();
        comes_to_the_same::<Sum>(&log);
    }
}
