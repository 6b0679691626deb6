//! Conditions, row by row: what is read, what is refused, what applies.

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod properties;
mod time;

fn parse(json: serde_json::Value) -> Condition {
    serde_json::from_value(json.clone()).unwrap_or_else(|why| panic!("{json}: {why}"))
}

fn parse_all(json: serde_json::Value) -> Vec<Condition> {
    let list = json.as_array().expect("a list").iter();
    list.map(|condition| parse(condition.clone())).collect()
}

fn put<'a>() -> Facts<'a> {
    Facts {
        service: Some("storage-service"),
        operation: Some("PutObject"),
        method: Some("PUT"),
        path: Some("/photos/2026/cat.jpg"),
        bucket: Some("photos"),
        key: Some("2026/cat.jpg"),
        headers: &[("content-length", "1048576"), ("X-Tenant", "a"), ("x-tenant", "b")],
        params: &[("partNumber", "7"), ("uploads", "")],
        user_agent: Some("aws-cli/2.1"),
        ip: Some("::ffff:10.1.2.3".parse().unwrap()),
        number: 7,
        now_ms: 1_795_878_000_000, // 2026-11-28T15:00:00Z, a Saturday
    }
}

#[test]
fn each_type_holds_for_what_it_says() {
    let rows = [
        (json!({"type": "service", "value": "storage-service"}), true),
        (json!({"type": "operation", "operator": "in", "value": ["GetObject", "PutObject"]}), true),
        (json!({"type": "operation", "value": ["GetObject"]}), false), // a list is `in`
        (json!({"type": "method", "value": "PUT"}), true),
        (json!({"type": "method", "operator": "ne", "value": "PUT"}), false),
        (json!({"type": "bucket", "operator": "matches", "value": "ph?tos"}), true),
        (json!({"type": "key", "operator": "matches", "value": "2026/*.jpg"}), true),
        (json!({"type": "key", "operator": "gt", "value": 900}), false), // by its bytes
        (json!({"type": "path", "operator": "prefix", "value": "/photos/"}), true),
        (json!({"type": "user_agent", "operator": "contains", "value": "cli"}), true),
        (json!({"type": "header", "field": "X-TENANT", "value": "a"}), true),
        (json!({"type": "header", "field": "X-Tenant", "value": "b"}), false), // the first counts
        (json!({"type": "header", "field": "Content-Length", "operator": "ge", "value": 9}), true),
        (json!({"type": "header", "field": "X-No", "operator": "ne", "value": 1}), false),
        (json!({"type": "header", "field": "X-No", "operator": "absent"}), true),
        (json!({"type": "param", "field": "partNumber", "operator": "lt", "value": 10}), true),
        (json!({"type": "param", "field": "partnumber", "operator": "exists"}), false),
        (json!({"type": "param", "field": "uploads", "operator": "exists"}), true),
        (json!({"type": "param", "field": "uploads", "value": ""}), true),
        (json!({"type": "ip", "value": "10.1.2.3"}), true),
        (json!({"type": "ip", "operator": "in", "value": ["::1", "10.0.0.0/8"]}), true),
        (json!({"type": "ip", "value": "10.9.9.9/8"}), true), // its host bits do not count
        (json!({"type": "ip", "value": "::ffff:10.0.0.0/104"}), true),
        (json!({"type": "ip", "value": "::ffff:10.1.2.3/128"}), true),
        (json!({"type": "ip", "value": "::/0"}), false),
        (json!({"type": "ip", "operator": "ne", "value": "10.0.0.0/8"}), false),
        (json!({"type": "ip", "operator": "ne", "value": "11.0.0.0/8"}), true),
        (json!({"type": "ip", "operator": "prefix", "value": "10.1."}), true),
        (json!({"type": "count", "value": 7}), true),
        (json!({"type": "count", "operator": "lt", "value": 7.0}), false),
        (json!({"type": "count", "operator": "ge", "value": "7"}), true),
        (json!({"type": "count", "operator": "ne", "value": 7}), false),
        (json!({"type": "count", "value": [6, 7]}), true),
        (json!({"type": "count", "every": 8}), true), // it is the eighth
        (json!({"type": "count", "every": 7}), false),
        (json!({"type": "count", "operator": "gt", "value": 7, "every": 4}), false),
        (json!({"type": "time", "from": "14:00", "to": "15:00"}), false),
        (json!({"type": "time", "from": "15:00", "to": "15:01"}), true),
        (json!({"type": "schedule", "days": ["sat"], "hours": ["8-17"]}), true),
        (json!({"type": "probability", "value": 1}), true),
        (json!({"type": "probability", "value": 0}), false),
    ];
    for (json, right) in rows {
        let list = [parse(json.clone())];
        assert_eq!(check(&list), Ok(()), "{json}");
        assert_eq!(applies(&list, &put(), 1, 1.0), right, "{json}");
    }
}

#[test]
fn of_what_is_not_known_nothing_holds_but_its_absence() {
    let unknown = Facts::default();
    for kind in Subject::NAMES.iter().copied().chain(["ip"]) {
        for operator in ["eq", "ne", "in", "not_contains", "matches", "exists"] {
            let value = if operator == "exists" { json!(null) } else { json!("10.0.0.1") };
            let field = if ["header", "param"].contains(&kind) { "x" } else { "" };
            let condition =
                json!({"type": kind, "field": field, "operator": operator, "value": value});
            assert!(!applies(&[parse(condition.clone())], &unknown, 1, 1.0), "{condition}");
        }
        let field = if ["header", "param"].contains(&kind) { "x" } else { "" };
        let absent = parse(json!({"type": kind, "field": field, "operator": "absent"}));
        assert!(applies(std::slice::from_ref(&absent), &unknown, 1, 1.0), "{kind}");
        assert_eq!(applies(&[absent], &put(), 1, 1.0), !field.is_empty(), "{kind}");
    }
}

#[test]
fn what_the_original_wrote_is_read_with_all_of_its_fields() {
    // all four fields are always there, the value of any type
    let rows = [
        json!({"type": "probability", "operator": "lt", "field": "", "value": 0.3}),
        json!({"type": "probability", "operator": "", "field": "rate", "value": "0.3"}),
        json!({"type": "header", "operator": "starts_with", "field": "X-Tenant", "value": "a"}),
        json!({"type": "param", "operator": "gte", "field": "partNumber", "value": 5}),
        json!({"type": "param", "operator": "regex", "field": "partNumber", "value": "^[0-9]+$"}),
        json!({"type": "user_agent", "operator": "ends_with", "field": "User-Agent", "value": "1"}),
        json!({"type": "user_agent", "operator": "not_contains", "field": "", "value": "boto"}),
        json!({"type": "ip", "operator": "eq", "field": "remote_addr", "value": "10.0.0.0/8"}),
        json!({"type": "ip", "operator": "starts_with", "field": "", "value": "10."}),
        json!({"type": "count", "operator": "lte", "field": "", "value": 100}),
        json!({"type": "time", "operator": "gt", "field": "", "value": "2026-01-01T00:00:00+02"}),
        json!({"type": "time", "operator": "lte", "field": "", "value": "2027-01-01T00:00:00Z"}),
        json!({"type": "time", "operator": "gte", "field": "", "value": "2026-01-01T00:00:00Z"}),
    ];
    for json in rows {
        let condition = parse(json.clone());
        assert_eq!(condition.check(), Ok(()), "{json}");
        let holds = (0..100).any(|number| {
            applies(std::slice::from_ref(&condition), &Facts { number, ..put() }, 1, 1.0)
        });
        assert!(holds, "{json}");
    }
    let text = r#"{"start_time": "2026-11-01T00:00:00Z", "end_time": null, "days": ["Saturday",
        "sunday"], "hours": [15, 16], "timezone": ""}"#;
    let schedule: Schedule = serde_json::from_str(text).unwrap();
    assert_eq!(schedule.check(), Ok(()));
    assert!(schedule.holds(put().now_ms));
}

#[test]
fn what_cannot_be_read_is_refused_with_what_would_be_right() {
    let rows = [
        (json!({"value": 1}), "expected one of probability, ip, count"),
        (json!({"type": "chance"}), "expected one of probability, ip, count"),
        (json!({"type": "key", "operator": "like", "value": "a"}), "expected one of eq, ne"),
        (json!({"type": "key", "value": "a", "extra": 1}), "unknown field `extra`"),
        (json!({"type": "key", "value": "a", "days": ["mon"]}), "days: unknown field"),
        (json!({"type": "key", "field": "a", "value": "a"}), "field: unknown field"),
        (json!({"type": "probability", "value": 0.1, "every": 2}), "every: unknown field"),
        (json!({"type": "probability", "value": "often"}), "value: expected 0 to 1"),
        (json!({"type": "probability"}), "value: expected 0 to 1"),
        (json!({"type": "key", "value": {"a": 1}}), "expected text, a number"),
        (json!({"type": "time", "operator": "eq", "value": "15:00"}), "gt, ge, lt, le"),
        (json!({"type": "time", "from": "15:00", "value": "15:00"}), "from: unknown field"),
        (json!({"type": "schedule", "days": ["moonday"]}), "expected a day: mon to sun"),
        (json!({"type": "schedule", "days": [7]}), "expected a day: mon to sun"),
        (json!({"type": "schedule", "hours": [24]}), "expected an hour from 0 to 23"),
        (json!({"type": "schedule", "hours": ["8-"]}), "expected an hour from 0 to 23"),
        (json!({"type": "count", "every": -1}), "expected u64"),
    ];
    for (json, expected) in rows {
        let why = serde_json::from_value::<Condition>(json.clone()).unwrap_err().to_string();
        assert!(why.contains(expected), "{json}: {why}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_field_and_does_no_harm() {
    let rows = [
        (json!({"type": "probability", "value": 1.5}), "value"),
        (json!({"type": "probability", "value": -0.1}), "value"),
        (json!({"type": "probability", "value": "NaN"}), "value"),
        (json!({"type": "header", "value": "a"}), "field"),
        (json!({"type": "header", "field": "X Tenant", "value": "a"}), "field"),
        (json!({"type": "param", "operator": "exists"}), "field"),
        (json!({"type": "method", "value": "put"}), "value"),
        (json!({"type": "method", "operator": "gt", "value": "A"}), "operator"),
        (json!({"type": "user_agent", "operator": "lt", "value": "b"}), "operator"),
        (json!({"type": "key", "operator": "regex", "value": "("}), "value"),
        (json!({"type": "key"}), "value"),
        (json!({"type": "ip", "value": "10.0.0.0/33"}), "value"),
        (json!({"type": "ip", "operator": "ne", "value": "localhost"}), "value"),
        (json!({"type": "ip", "operator": "ge", "value": "10.0.0.1"}), "operator"),
        (json!({"type": "ip"}), "value"),
        (json!({"type": "ip", "operator": "ne"}), "value"),
        (json!({"type": "ip", "operator": "exists", "value": "10.1.2.3"}), "value"),
        (json!({"type": "key", "operator": "exists", "value": "2026/cat.jpg"}), "value"),
        (json!({"type": "count"}), "value"),
        (json!({"type": "count", "every": 0}), "every"),
        (json!({"type": "count", "operator": "ne", "value": -1}), "value"),
        (json!({"type": "count", "operator": "ne", "value": 1.5}), "value"),
        (json!({"type": "count", "operator": "contains", "value": 1}), "operator"),
        (json!({"type": "time"}), "from"),
        (json!({"type": "time", "from": "25:00"}), "from"),
        (json!({"type": "time", "from": "7:00"}), "from"),
        (json!({"type": "time", "to": "tomorrow"}), "to"),
        (json!({"type": "time", "from": "2026-02-30T00:00:00Z"}), "from"),
        (json!({"type": "time", "from": "2026-11-28T00:00:00"}), "from"), // of which zone?
        (json!({"type": "time", "from": "12:00", "to": "12:00"}), "to"),
        (
            json!({"type": "time", "from": "2026-11-28T00:00:00Z", "to": "2026-11-27T00:00:00Z"}),
            "to",
        ),
        (json!({"type": "schedule", "days": []}), "days"),
        (json!({"type": "schedule", "hours": []}), "hours"),
        (json!({"type": "schedule", "timezone": "Mars/Olympus"}), "timezone"),
        (json!({"type": "schedule", "timezone": "+02:00"}), "timezone"),
        (json!({"type": "schedule", "start_time": "noon"}), "start_time"),
    ];
    for (json, field) in rows {
        let list = [parse(json.clone())];
        let (found, why) = check(&list).unwrap_err();
        assert_eq!(found, format!("conditions[0].{field}"), "{json}: {why}");
        assert!(why.contains("expected"), "{json}: {why}");
        assert!(!applies(&list, &put(), 1, 1.0), "{json}"); // COND-2
    }
    let many = vec![Condition::Probability { value: 1.0 }; MOST + 1];
    assert_eq!(check(&many).unwrap_err().0, "conditions");
}

#[test]
fn conditions_that_cannot_hold_together_are_found() {
    let key =
        |operator: &str, value: &str| json!({"type": "key", "operator": operator, "value": value});
    let count =
        |operator: &str, value: u64| json!({"type": "count", "operator": operator, "value": value});
    let ip =
        |operator: &str, value: &str| json!({"type": "ip", "operator": operator, "value": value});
    let header = |field: &str, operator: &str, value: serde_json::Value| {
        let kind = "header";
        json!({"type": kind, "field": field, "operator": operator, "value": value})
    };
    let (from, to) = ("2026-11-28T15:00:00Z", "2026-11-28T14:00:00Z");
    let rows = [
        json!([{"type": "method", "value": "GET"}, {"type": "method", "value": "PUT"}]),
        json!([key("eq", "a"), key("ne", "a")]),
        json!([key("matches", "a*"), key("eq", "b")]),
        json!([key("prefix", "a/"), key("prefix", "b/")]),
        json!([key("suffix", ".jpg"), key("suffix", ".png")]),
        json!([key("not_contains", "/"), key("prefix", "a/")]),
        json!([key("ge", "b"), key("lt", "b")]),
        json!([{"type": "key", "operator": "in", "value": ["a", "b"]}, key("regex", "[c-f]")]),
        json!([header("size", "gt", json!(900)), header("size", "lt", json!(90))]),
        json!([header("X-A", "absent", json!(null)), header("x-a", "ne", json!("b"))]),
        json!([count("lt", 5), count("ge", 5)]),
        json!([count("gt", 5), count("lt", 6)]),
        json!([count("eq", 5), {"type": "count", "every": 5}]),
        json!([count("lt", 4), {"type": "count", "every": 5}]),
        json!([ip("eq", "10.0.0.0/8"), ip("eq", "192.168.0.1")]),
        json!([ip("eq", "10.1.0.0/16"), ip("ne", "10.0.0.0/8")]),
        json!([ip("ne", "10.0.0.0/8"), ip("eq", "10.1.0.0/16")]),
        json!([{"type": "time", "from": from}, {"type": "time", "to": to}]),
        json!([{"type": "time", "from": from}, {"type": "time", "to": from}]),
        json!([{"type": "time", "from": "08:00", "to": "09:00"},
            {"type": "time", "from": "22:00", "to": "06:00"}]),
        json!([{"type": "schedule", "days": ["mon"]}, {"type": "schedule", "days": ["tue"]}]),
        json!([{"type": "schedule", "hours": ["8-17"]},
            {"type": "schedule", "start_time": "18:00", "timezone": "UTC"}]),
    ];
    for json in rows {
        // before them one that has nothing to do with it
        let mut list = vec![parse(json!({"type": "bucket", "operator": "exists"}))];
        list.extend(parse_all(json.clone()));
        let (field, why) = check(&list).expect_err(&json.to_string());
        assert_eq!(field, "conditions[2]", "{json}");
        assert!(why.contains("no ") && why.contains("before"), "{why}");
        assert_eq!(contradicts(&list[..2]), None, "{json}");
    }
}

#[test]
fn conditions_that_can_hold_together_are_let_be() {
    for json in [
        json!([{"type": "method", "value": ["GET", "PUT"]}, {"type": "method", "value": "PUT"}]),
        json!([{"type": "header", "field": "A", "value": "1"},
            {"type": "header", "field": "B", "value": "2"}]),
        json!([{"type": "key", "operator": "prefix", "value": "a"},
            {"type": "key", "operator": "prefix", "value": "a/b"}]),
        json!([{"type": "count", "operator": "gt", "value": 5},
            {"type": "count", "operator": "lt", "value": 7}, {"type": "count", "every": 7}]),
        json!([{"type": "ip", "value": "10.0.0.0/8"}, {"type": "ip", "value": "10.1.0.0/16"},
            {"type": "ip", "operator": "ne", "value": "10.1.1.0/24"}]),
        json!([{"type": "ip", "value": ["10.0.0.0/8", "11.0.0.0/8"]},
            {"type": "ip", "operator": "ne", "value": "10.0.0.0/8"}]),
        json!([{"type": "key", "operator": "ge", "value": "b"},
            {"type": "key", "operator": "le", "value": "b"}]),
        // 1000 is more than 900, and as text before 1a
        json!([{"type": "header", "field": "A", "operator": "gt", "value": 900},
            {"type": "header", "field": "A", "operator": "lt", "value": "1a"}]),
        json!([{"type": "time", "from": "22:00", "to": "06:00"},
            {"type": "schedule", "hours": [5], "timezone": "UTC"}]),
        // 08:00 in Auckland is another time than in New York
        json!([{"type": "schedule", "hours": [8], "timezone": "Pacific/Auckland"},
            {"type": "schedule", "hours": [14], "timezone": "America/New_York"}]),
        json!([{"type": "probability", "value": 0.1}, {"type": "probability", "value": 0.9}]),
    ] {
        assert_eq!(check(&parse_all(json.clone())), Ok(()), "{json}");
    }
}

#[test]
fn a_rule_counts_the_requests_that_are_eligible_whatever_else_goes_by() {
    let list = parse_all(json!([
        {"type": "method", "value": "PUT"},
        {"type": "count", "operator": "ge", "value": 2},
        {"type": "count", "every": 3},
    ]));
    let mut counter = 0;
    let mut hit = Vec::new();
    for n in 0..40 {
        let method = if n % 4 == 0 { "PUT" } else { "GET" };
        let facts = Facts { method: Some(method), ..put() };
        if eligible(&list, &facts) {
            let facts = Facts { number: counter, ..facts };
            counter += 1;
            assert_eq!(chosen(&list, &facts, 1, 1.0), applies(&list, &facts, 1, 1.0));
            hit.extend(chosen(&list, &facts, 1, 1.0).then_some(n));
        }
    }
    assert_eq!((counter, hit), (10, vec![8, 20, 32])); // the third, sixth and ninth PUT
}
