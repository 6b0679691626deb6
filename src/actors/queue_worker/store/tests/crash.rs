//! A disk that remembers every write, so that power can fail at each of them.
//!
//! Un-synced writes are lost in part: all up to some point are kept, or every second one of them.
//! Whatever is kept, a store opened on it must show exactly the state after some whole batch, not
//! older than the last batch that was synced (`STATE-1`).

use std::io;
use std::sync::{Arc, Mutex};

use redb::{Builder, StorageBackend};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, bytes: Vec<u8> },
    Resize(u64),
    Sync,
}

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Step>)>>);

fn perform(image: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write { offset, bytes } => {
            let offset = *offset as usize;
            let end = offset + bytes.len();
            image.resize(image.len().max(end), 0);
            image[offset..end].copy_from_slice(bytes);
        }
        Step::Resize(len) => image.resize(*len as usize, 0),
        Step::Sync => {}
    }
}

impl Disk {
    fn holding(image: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new((image, Vec::new()))))
    }

    fn log(&self, step: Step) {
        let mut disk = self.0.lock().unwrap();
        perform(&mut disk.0, &step);
        disk.1.push(step);
    }

    fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().1.clone()
    }

    fn open(&self) -> Queue {
        let database = Builder::new().create_with_backend(self.clone()).unwrap();
        // as large as can be, so that it is compacted whenever it is opened
        Queue::over(QueueStore::start(Path::new("disk"), database, u64::MAX).unwrap())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let disk = self.0.lock().unwrap();
        let from = disk.0.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.log(Step::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.log(Step::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.log(Step::Write { offset, bytes: data.to_vec() });
        Ok(())
    }
}

/// What a disk may hold after power failed before step `at`: with all un-synced writes, with none
/// of them, with every second one.
fn images(start: &[u8], steps: &[Step], at: usize) -> Vec<Vec<u8>> {
    let synced = steps[..at].iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let kept: [fn(usize) -> bool; 4] = [|_| true, |_| false, |n| n % 2 == 0, |n| n % 2 == 1];
    let image = |keep: fn(usize) -> bool| {
        let mut image = start.to_vec();
        for (n, step) in steps[..at].iter().enumerate() {
            // the length of a file is not reordered against its own contents here
            if n <= synced || matches!(step, Step::Resize(_)) || keep(n - synced) {
                perform(&mut image, step);
            }
        }
        image
    };
    kept.map(image).to_vec()
}

fn batches() -> Vec<Vec<Command>> {
    let lease = |now_ms| lease_command("w", 3, now_ms);
    let done = |n: u64, now_ms| Command::Complete { lease: held(n, n), now_ms };
    let enqueue = |from: u64| {
        let tasks = (from..from + 20).map(|n| replicate(n, 1_000)).collect();
        Command::Enqueue { tasks, limit: 1_000 }
    };
    vec![
        vec![enqueue(1), lease(2_000)],
        vec![done(1, 2_100), done(2, 2_200), enqueue(21)],
        vec![Command::ExpireLeases { now_ms: 99_000 }, lease(99_000)],
        vec![Command::Purge { finished_before_ms: 99_000, keep: 0 }, enqueue(1)],
    ]
}

#[test]
fn power_may_fail_at_each_write_and_every_batch_is_there_whole_or_not_at_all() {
    let disk = Disk::default();
    drop(disk.open());
    let start = disk.0.lock().unwrap().0.clone();
    let disk = Disk::holding(start.clone());
    let store = disk.open();
    let (mut states, mut synced) = (vec![(0, dump(&store))], vec![(disk.steps().len(), 0)]);
    for commands in batches() {
        let first = states.last().unwrap().0 + 1;
        store.apply_batch(first, &commands);
        let applied = store.applied_index().unwrap();
        states.push((applied, dump(&store)));
        if states.len() % 2 == 1 {
            store.machine.borrow_mut().sync().unwrap();
            synced.push((disk.steps().len(), applied));
        }
    }
    let totals = store.stats().unwrap().totals;
    assert_eq!((totals.completed, totals.lost_leases, totals.purged), (2, 1, 2));
    let steps = disk.steps();
    let begin = synced[0].0;
    assert!(steps.len() - begin > 20, "too few writes to tell: {}", steps.len() - begin);
    for at in begin..=steps.len() {
        let promised = synced.iter().rfind(|(step, _)| *step <= at).unwrap().1;
        for image in images(&start, &steps, at) {
            let found = Disk::holding(image).open();
            let applied = found.applied_index().unwrap();
            assert!(applied >= promised, "write {at}: {applied} found, {promised} promised");
            let expected = states.iter().find(|(index, _)| *index == applied);
            assert_eq!(expected.map(|(_, dump)| dump), Some(&dump(&found)), "write {at}");
            recount(&found);
        }
    }
}
