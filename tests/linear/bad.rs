//! Histories written by hand that must not pass, beside their lawful sisters.

use crate::checker::{Fault, check, check_together};
use crate::history::{Act, Operation, When};

fn op(begun: u64, ended: impl Into<Option<u64>>, act: Act) -> Operation {
    Operation { client: 1, begun, ended: ended.into(), act }
}

fn put(value: u64) -> Act {
    put_if(value, When::Always)
}

fn put_if(value: u64, when: When) -> Act {
    Act::Put { key: "k".into(), value, when, refused: false }
}

fn refused(value: u64, when: When) -> Act {
    Act::Put { key: "k".into(), value, when, refused: true }
}

fn delete() -> Act {
    Act::Delete { key: "k".into() }
}

fn read(saw: impl Into<Option<u64>>) -> Act {
    Act::Read { key: "k".into(), saw: saw.into() }
}

fn list(rows: &[(&str, u64)]) -> Act {
    let saw = rows.iter().map(|(key, value)| (key.to_string(), *value)).collect();
    Act::List { from: String::new(), to: "~".into(), saw }
}

/// Not linearizable, and broken by this very operation.
fn broken_by(history: &[Operation], culprit: usize) {
    match check(history) {
        Err(Fault::Broken(broken)) => assert_eq!(broken.culprit, history[culprit], "{broken}"),
        other => panic!("{other:?}: {history:?}"),
    }
}

fn fine(history: &[Operation]) {
    check(history).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn a_stale_read_is_found_and_one_beside_the_write_is_not() {
    broken_by(&[op(0, 1, put(1)), op(2, 3, put(2)), op(4, 5, read(1))], 2);
    fine(&[op(0, 1, put(1)), op(2, 6, put(2)), op(4, 5, read(1))]);
    // both reads beside the write, but the later one sees the older value
    broken_by(&[op(0, 1, put(1)), op(2, 9, put(2)), op(3, 4, read(2)), op(5, 6, read(1))], 3);
}

#[test]
fn a_lost_update_is_found() {
    let update = |n, value| op(n, n + 9, put_if(value, When::Holds(1)));
    broken_by(&[op(0, 1, put(1)), update(2, 2), update(3, 3)], 2);
    broken_by(&[op(0, 1, put(1)), op(2, 3, put_if(2, When::Holds(1))), op(4, 5, read(1))], 2);
    fine(&[op(0, 1, put(1)), update(2, 2), op(3, 12, refused(3, When::Holds(1)))]);
}

#[test]
fn a_read_of_a_value_never_written_is_found() {
    broken_by(&[op(0, 1, put(1)), op(2, 3, read(7))], 1);
    broken_by(&[op(0, 1, read(1)), op(2, 3, put(1))], 0);
}

#[test]
fn a_deleted_object_that_comes_back_is_found() {
    broken_by(&[op(0, 1, put(1)), op(2, 3, delete()), op(4, 5, read(1))], 2);
    let gone_and_back =
        [op(0, 1, put(1)), op(2, None, delete()), op(4, 5, read(None)), op(6, 7, read(1))];
    broken_by(&gone_and_back, 3);
    fine(&gone_and_back[..3]);
}

#[test]
fn of_two_that_create_the_same_key_one_must_be_refused() {
    let create = |n, value| op(n, n + 9, put_if(value, When::Absent));
    broken_by(&[create(0, 1), create(1, 2)], 1);
    fine(&[create(0, 1), op(1, 5, delete()), create(1, 2)]);
    fine(&[create(0, 1), op(1, 10, refused(2, When::Absent))]);
    broken_by(&[op(1, 10, refused(2, When::Absent))], 0);
}

#[test]
fn a_write_of_unknown_outcome_may_happen_late_or_never_but_only_once() {
    let unknown = op(0, None, put(7));
    let seen = |begun, saw: Option<u64>| op(begun, begun + 1, read(saw));
    fine(&[unknown.clone(), seen(1, None)]);
    fine(&[unknown.clone(), seen(1, None), seen(3, Some(7))]);
    let twice = [unknown, seen(1, None), seen(3, Some(7)), op(5, 6, put(8)), seen(7, Some(7))];
    broken_by(&twice, 4);
    // not before it was begun
    broken_by(&[op(0, 1, read(7)), op(2, None, put(7))], 0);
}

#[test]
fn one_unknown_write_may_need_another() {
    let history = [
        op(0, None, put(1)),
        op(1, None, put_if(2, When::Holds(1))),
        op(2, None, delete()),
        op(3, None, put_if(4, When::Absent)),
        op(10, 11, read(2)),
        op(12, 13, read(4)),
    ];
    fine(&history);
    let without_delete = [&history[..2], &history[3..]].concat();
    broken_by(&without_delete, 4);
}

#[test]
fn a_refusal_must_have_a_reason() {
    let refusal = op(4, 5, refused(9, When::Absent));
    broken_by(&[op(0, 1, put(1)), op(2, 3, delete()), refusal.clone()], 2);
    fine(&[op(0, 1, put(1)), op(2, 3, delete()), op(2, None, put(3)), refusal]);
    broken_by(&[op(0, 1, put(1)), op(4, 5, refused(9, When::Holds(1)))], 1);
}

#[test]
fn a_list_is_a_read_of_every_key_and_together_of_one_moment() {
    let put = |n: u64, key: &str| {
        let (key, when) = (key.to_owned(), When::Always);
        op(n, n + 1, Act::Put { key, value: n, when, refused: false })
    };
    // y was there before x was; the list began before both
    let torn = [op(0, 9, list(&[("x", 3)])), put(1, "y"), put(3, "x")];
    fine(&torn);
    assert!(matches!(check_together(&torn, 1000), Err(Fault::Broken(_))));
    let whole = [op(0, 9, list(&[("y", 1)])), put(1, "y"), put(3, "x")];
    check_together(&whole, 1000).unwrap_or_else(|fault| panic!("{fault}"));
    // a list after both lacks one
    let lacking = [put(1, "y"), put(3, "x"), op(5, 6, list(&[("y", 1)]))];
    assert!(matches!(check(&lacking), Err(Fault::Broken(b)) if b.keys == ["x"]));
}

#[test]
fn a_fault_tells_the_shortest_history_and_what_it_could_have_held() {
    let history = [
        op(0, 1, put(1)),
        op(2, None, put(2)),
        op(3, 4, read(1)),
        op(5, 6, read(3)),
        op(7, 8, put(3)),
    ];
    let text = check(&history).unwrap_err().to_string();
    for wanted in ["not linearizable: k", "client 1: read k: #3", "could hold  #1", "PUT k #2"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("PUT k #3"), "it was begun after the fault: {text}");
}
