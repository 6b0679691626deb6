//! The queue as a replicated machine: the same state on every replica, and a file that stays small.

use super::*;
use crate::actors::redb_state::tests::comes_to_the_same;

fn step(queue: &Queue, key: u128, command: Command) -> Outcome {
    let mut machine = queue.machine.borrow_mut();
    let next = machine.applied() + 1;
    machine.apply(next, &[Keyed { key, command }], b"").unwrap().remove(0)
}

#[test]
fn a_lease_that_is_asked_for_again_gives_the_same_tasks_and_a_refusal_stays_one() {
    let dir = TempDir::new().unwrap();
    let queue = open(&dir);
    let early = Command::Complete { lease: held(1, 1), now_ms: 1 };
    let refused = Outcome::Refused(Refused::NoSuchTask);
    assert_eq!(step(&queue, 1, early.clone()), refused);
    step(&queue, 2, enqueue((1..=4).map(|n| replicate(n, 0))));
    let first = step(&queue, 3, lease_command("w", 2, 10));
    assert_eq!(step(&queue, 3, lease_command("w", 2, 20)), first, "COMMAND-3");
    assert_eq!(leased_ids(first), ["t-1", "t-2"]);
    assert_eq!(leased_ids(step(&queue, 4, lease_command("w", 2, 30))), ["t-3", "t-4"]);
    assert_eq!(step(&queue, 1, early.clone()), refused);
    assert!(matches!(step(&queue, 5, early), Outcome::Changed { .. }));
}

#[test]
fn the_file_stays_small_over_many_small_transactions() {
    let dir = TempDir::new().unwrap();
    let queue = open(&dir);
    let size = || std::fs::metadata(dir.path().join("queue.redb")).unwrap().len();
    for n in 1..=CYCLES {
        step(&queue, n.into(), enqueue([replicate(n, 0)]));
        step(&queue, 1 << 70 | u128::from(n), lease_command("w", 1, n));
        step(&queue, 0, Command::Complete { lease: held(n, n), now_ms: n });
        if n % 100 == 0 {
            step(&queue, 0, Command::Purge { finished_before_ms: n, keep: 100 });
        }
    }
    queue.machine.borrow_mut().sync().unwrap();
    eprintln!("{CYCLES} cycles: {} bytes", size());
    assert!(size() < CYCLES * 2_000, "{} bytes", size());
}

const CYCLES: u64 = 3_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_with_any_keys_come_to_the_same_on_every_replica(
        ops in proptest::collection::vec((op(), 0..700_u64, 0..20_u128), 2..90),
    ) {
        let (mut now, mut model, mut leases) = (10_000, Model::default(), Vec::new());
        let mut log = Vec::new();
        for (op, wait_ms, key) in ops {
            now += wait_ms;
            let command = command_of(op, now, &leases);
            if let Outcome::Leased { tasks, .. } = model.apply(&command) {
                let held = |task: Task| LeaseRef { token: task.last_token, id: task.id };
                leases.extend(tasks.into_iter().map(held));
            }
            log.push(Keyed { key, command });
        }
        comes_to_the_same::<Tasks>(&log);
    }
}
