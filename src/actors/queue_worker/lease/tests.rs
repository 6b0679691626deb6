//! Tables and properties of the decisions on one task.

use proptest::prelude::*;

use super::*;
use crate::actors::queue_worker::task::{NewTask, TaskKind};
use crate::types::DataId;

fn pending() -> Task {
    let kind = TaskKind::Replicate { data_id: DataId(1), to: "storage-service-x".to_owned() };
    NewTask { max_attempts: 3, ..NewTask::new("t-1-0", kind, 1_000) }.into_task()
}

fn lease(token: u64) -> Lease {
    Lease { worker: "w".to_owned(), token, until_ms: 9_000 }
}

fn running(token: u64) -> Task {
    leased(pending(), lease(token), 1_000).unwrap()
}

/// One task in each state, the last lease of those that had one with token 5.
fn in_state(state: TaskState) -> Task {
    match state {
        TaskState::Pending => pending(),
        TaskState::Running => running(5),
        TaskState::Retrying => failed(running(5), 5, "e", 2_000, 0).unwrap(),
        TaskState::Completed => completed(running(5), 5, 2_000).unwrap(),
        TaskState::Failed => forced(running(5), TaskState::Failed, None, 2_000).unwrap(),
        TaskState::Cancelled => cancelled(pending(), 2_000).unwrap(),
    }
}

#[test]
fn the_wait_doubles_from_one_second_to_half_a_minute_and_jitter_takes_away_up_to_half() {
    let rows = [
        (0, 500, 1_000),
        (1, 500, 1_000),
        (2, 1_000, 2_000),
        (3, 2_000, 4_000),
        (9, 15_000, 30_000),
        (10, 15_000, 30_000),
        (u32::MAX, 15_000, 30_000),
    ];
    for (failures, least, most) in rows {
        assert_eq!(backoff_ms(failures, 0), least, "after {failures}");
        assert_eq!(backoff_ms(failures, u32::MAX), most, "after {failures}");
    }
    assert_eq!(backoff_ms(1, u32::MAX / 2), 749);
}

#[test]
fn each_event_in_each_state_leads_to_one_state_or_is_refused() {
    use TaskState::*;
    type Step = fn(Task) -> Result<Task, Refused>;
    // columns: pending, running (token 5), retrying, completed, failed, cancelled
    let rows: [(&str, Step, [Option<TaskState>; 6]); 10] = [
        (
            "lease",
            |t| leased(t, lease(6), 99_000),
            [Some(Running), None, Some(Running), None, None, None],
        ),
        ("renew", |t| renewed(t, 5, 99_000), [None, Some(Running), None, None, None, None]),
        (
            "complete",
            |t| completed(t, 5, 3_000),
            [None, Some(Completed), None, Some(Completed), None, None],
        ),
        ("complete, stale", |t| completed(t, 4, 3_000), [None; 6]),
        (
            "fail",
            |t| failed(t, 5, "e", 3_000, 1),
            [None, Some(Retrying), Some(Retrying), None, Some(Failed), None],
        ),
        (
            "release",
            |t| released(t, 5, 3_000),
            [None, Some(Pending), Some(Retrying), None, None, None],
        ),
        (
            "take back",
            |t| taken_back(t, "e", 3_000),
            [None, Some(Retrying), None, None, None, None],
        ),
        (
            "cancel",
            |t| cancelled(t, 3_000),
            [Some(Cancelled), None, Some(Cancelled), None, None, Some(Cancelled)],
        ),
        ("retry", |t| retried(t, 3_000), [None, None, None, None, Some(Pending), Some(Pending)]),
        (
            "set completed",
            |t| forced(t, Completed, None, 3_000),
            [Some(Completed), Some(Completed), Some(Completed), Some(Completed), None, None],
        ),
    ];
    for (event, step, expected) in rows {
        for (state, expected) in TaskState::ALL.into_iter().zip(expected) {
            let after = step(in_state(state)).ok().map(|task| task.state);
            assert_eq!(after, expected, "{event} in {state}");
        }
    }
    for state in [Running, Retrying] {
        let refused = forced(pending(), state, None, 3_000);
        assert_eq!(refused, Err(Refused::Invalid { field: "state".to_owned() }));
    }
}

#[test]
fn a_result_that_was_counted_is_answered_again_and_changes_nothing() {
    let done = completed(running(5), 5, 2_000).unwrap();
    assert_eq!(completed(done.clone(), 5, 3_000), Ok(done));
    let retrying = failed(running(5), 5, "first", 2_000, 7).unwrap();
    assert_eq!(failed(retrying.clone(), 5, "again", 3_000, 8), Ok(retrying));
    let given_back = released(running(5), 5, 2_000).unwrap();
    assert_eq!(released(given_back.clone(), 5, 3_000), Ok(given_back));
    assert_eq!(completed(pending(), 0, 2_000), Err(Refused::StaleToken));
}

#[test]
fn attempts_are_used_up_by_failures_and_not_by_lost_or_unused_leases() {
    let mut task = pending();
    for _ in 0..50 {
        task = taken_back(leased(task, lease(1), 99_000).unwrap(), "lost", 99_000).unwrap();
        task = released(leased(task, lease(2), 99_000).unwrap(), 2, 99_000).unwrap();
    }
    for failure in 1..=3 {
        assert_eq!(task.state, if failure == 1 { TaskState::Pending } else { TaskState::Retrying });
        let held = leased(task, lease(3), u64::MAX).unwrap();
        task = failed(held, 3, "no", 99_000, 0).unwrap();
    }
    assert_eq!((task.state, task.lost, task.attempts), (TaskState::Failed, 50, 53));
    assert_eq!(task.last_error.as_deref(), Some("no"));
}

#[test]
fn a_task_that_loses_every_worker_becomes_a_dead_letter() {
    let mut task = pending();
    let mut leases = 0;
    while task.state != TaskState::Failed {
        assert!(leases < MAX_LOST);
        task = taken_back(leased(task, lease(1), 99_000).unwrap(), "worker died", 99_000).unwrap();
        leases += 1;
    }
    assert_eq!(leases, MAX_LOST);
}

#[test]
fn a_long_error_is_cut_between_characters() {
    let task = failed(running(5), 5, &"é".repeat(2_000), 2_000, 0).unwrap();
    assert_eq!(task.last_error, Some("é".repeat(ERROR_LIMIT_BYTES / 2)));
}

#[derive(Clone, Debug)]
enum Event {
    Lease,
    Renew(u64),
    Complete(u64),
    Fail(u64, u32),
    Release(u64),
    TakeBack,
    Cancel,
    Retry,
    Force(TaskState),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Lease),
        1 => (0..3u64).prop_map(Event::Renew),
        2 => (0..3u64).prop_map(Event::Complete),
        4 => (0..3u64, any::<u32>()).prop_map(|(ago, jitter)| Event::Fail(ago, jitter)),
        1 => (0..3u64).prop_map(Event::Release),
        2 => Just(Event::TakeBack),
        1 => Just(Event::Cancel),
        1 => Just(Event::Retry),
        1 => proptest::sample::select(&TaskState::ALL[..]).prop_map(Event::Force),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_to_a_task_it_stays_well_formed(
        events in proptest::collection::vec((event(), 0..5_000u64), 1..60),
    ) {
        let (mut task, mut now, mut token) = (pending(), 1_000, 0_u64);
        for (event, wait_ms) in events {
            now += wait_ms;
            let before = task.clone();
            let past = |ago: u64| token.saturating_sub(ago);
            let after = match event {
                Event::Lease => leased(task.clone(), lease(token + 1), now),
                Event::Renew(ago) => renewed(task.clone(), past(ago), now + 500),
                Event::Complete(ago) => completed(task.clone(), past(ago), now),
                Event::Fail(ago, jitter) => failed(task.clone(), past(ago), "e", now, jitter),
                Event::Release(ago) => released(task.clone(), past(ago), now),
                Event::TakeBack => taken_back(task.clone(), "lost", now),
                Event::Cancel => cancelled(task.clone(), now),
                Event::Retry => retried(task.clone(), now),
                Event::Force(state) => forced(task.clone(), state, None, now),
            };
            let Ok(after) = after else { continue };
            token += u64::from(after.last_token > token);
            task = after;
            check_form(&task);
            let held = before.lease.as_ref().map(|lease| lease.token);
            if before.state == TaskState::Completed {
                prop_assert_eq!(&task, &before, "completed is the end");
            }
            if let (Some(held), Some(lease)) = (held, &task.lease) {
                prop_assert_eq!(held, lease.token, "a lease is not passed on while it is held");
            }
        }
    }
}

/// `TASK-3`, `LEASE-2` and the bounds of the attempts.
fn check_form(task: &Task) {
    assert_eq!(task.lease.is_some(), task.state == TaskState::Running, "{task:?}");
    assert_eq!(task.finished_ms.is_some(), task.state.is_final(), "{task:?}");
    assert!(
        task.lost <= task.attempts && task.attempts - task.lost <= task.max_attempts,
        "{task:?}"
    );
    let waits_at_most = task.updated_ms + BACKOFF_CAP_MS;
    assert!(!is_waiting(task.state) || task.not_before_ms <= waits_at_most, "{task:?}");
}
