//! Schedules and times of the day, where clocks change.

use super::*;

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn schedule(json: serde_json::Value) -> Schedule {
    let schedule: Schedule = serde_json::from_value(json).unwrap();
    assert_eq!(schedule.check(), Ok(()));
    schedule
}

#[test]
fn a_schedule_over_weeks_with_a_change_of_clocks_is_right() {
    let berlin = json!({"days": ["sun", 1], "hours": ["2-3"], "timezone": "Europe/Berlin"});
    let new_york = json!({"start_time": "01:30", "end_time": "03:00", "days": ["sunday"],
        "timezone": "America/New_York"});
    let kathmandu = json!({"hours": [0], "days": ["tue"], "timezone": "Asia/Kathmandu"});
    let lord_howe = json!({"start_time": "02:00", "end_time": "02:30",
        "timezone": "Australia/Lord_Howe"});
    let rows = [
        (&berlin, "2026-03-22T01:00:00Z", true),  // Sunday 02:00, +1
        (&berlin, "2026-03-29T00:59:59Z", false), // Sunday 01:59:59, +1
        (&berlin, "2026-03-29T01:00:00Z", true),  // Sunday 03:00, +2: there is no 02:00
        (&berlin, "2026-03-29T01:59:59Z", true),
        (&berlin, "2026-03-29T02:00:00Z", false), // Sunday 04:00
        (&berlin, "2026-03-30T00:00:00Z", true),  // Monday 02:00, +2
        (&berlin, "2026-03-30T02:00:00Z", false),
        (&berlin, "2026-03-31T00:00:00Z", false), // Tuesday
        (&berlin, "2026-10-24T23:59:59Z", false), // Sunday 01:59:59, +2
        (&berlin, "2026-10-25T00:00:00Z", true),  // Sunday 02:00, +2
        (&berlin, "2026-10-25T01:30:00Z", true),  // Sunday 02:30 again, +1
        (&berlin, "2026-10-25T02:59:59Z", true),  // Sunday 03:59:59
        (&berlin, "2026-10-25T03:00:00Z", false),
        (&new_york, "2026-03-08T06:29:59Z", false), // 01:29:59, -5
        (&new_york, "2026-03-08T06:30:00Z", true),
        (&new_york, "2026-03-08T07:00:00Z", false), // 03:00, -4
        (&new_york, "2026-11-01T05:30:00Z", true),  // 01:30, -4
        (&new_york, "2026-11-01T06:00:00Z", false), // 01:00 again, -5
        (&new_york, "2026-11-01T06:30:00Z", true),  // 01:30 again
        (&new_york, "2026-11-01T08:00:00Z", false), // 03:00
        (&kathmandu, "2026-11-23T18:14:59Z", false), // Monday 23:59:59, +5:45
        (&kathmandu, "2026-11-23T18:15:00Z", true),
        (&lord_howe, "2026-10-03T15:30:00Z", false), // half an hour forward: 02:30, +11
        (&lord_howe, "2026-10-03T15:29:59Z", false), // 01:59:59, +10:30
        (&lord_howe, "2026-10-04T15:00:00Z", true),  // 02:00, +11
    ];
    for (json, time, right) in rows {
        assert_eq!(schedule(json.clone()).holds(at(time)), right, "{json} at {time}");
    }
}

#[test]
fn windows_begin_with_their_first_moment_and_end_before_their_last() {
    let rows = [
        (json!({"type": "time", "from": "22:00", "to": "06:00"}), "2026-11-28T22:00:00Z", true),
        (json!({"type": "time", "from": "22:00", "to": "06:00"}), "2026-11-28T05:59:59.999Z", true),
        (json!({"type": "time", "from": "22:00", "to": "06:00"}), "2026-11-28T06:00:00Z", false),
        (json!({"type": "time", "from": "22:00", "to": "06:00"}), "2026-11-28T21:59:59Z", false),
        (json!({"type": "time", "from": "22:00", "to": "00:00"}), "2026-11-28T23:59:00Z", true),
        (json!({"type": "time", "from": "22:00", "to": "00:00"}), "2026-11-28T00:00:00Z", false),
        (json!({"type": "time", "from": "22:00"}), "2026-11-28T23:59:00Z", true),
        (json!({"type": "time", "to": "22:00"}), "2026-11-28T22:00:00Z", false),
        (json!({"type": "time", "to": "2026-11-28T22:00:00Z"}), "2026-11-28T21:59:59.999Z", true),
        (json!({"type": "time", "to": "2026-11-28T22:00:00Z"}), "2026-11-28T22:00:00Z", false),
        (
            json!({"type": "time", "from": "2026-11-28T22:00:00+01:00"}),
            "2026-11-28T21:00:00Z",
            true,
        ),
        (json!({"type": "time", "from": "2026-11-28T22:00:00.5Z"}), "2026-11-28T22:00:00Z", false),
        // from then on, each day until six
        (
            json!({"type": "time", "from": "2026-11-28T22:00:00Z", "to": "06:00"}),
            "2026-11-29T05:00:00Z",
            true,
        ),
        (json!({"type": "schedule", "hours": ["22-5"]}), "2026-11-28T05:59:00Z", true),
        (json!({"type": "schedule", "hours": ["22-5"]}), "2026-11-28T06:00:00Z", false),
        (json!({"type": "schedule", "hours": ["22-5"]}), "2026-11-28T22:00:00Z", true),
        (json!({"type": "schedule", "hours": ["8-17"]}), "2026-11-28T17:59:00Z", true),
        (json!({"type": "schedule", "days": [6]}), "2026-11-28T12:00:00Z", true),
        (json!({"type": "schedule", "days": [0]}), "2026-11-29T12:00:00Z", true),
        (json!({"type": "schedule"}), "2026-11-29T12:00:00Z", true),
    ];
    for (json, time, right) in rows {
        let condition = parse(json.clone());
        assert_eq!(condition.check(), Ok(()), "{json}");
        let facts = Facts { now_ms: at(time), ..Facts::default() };
        assert_eq!(applies(&[condition], &facts, 1, 1.0), right, "{json} at {time}");
    }
}

/// The weeks with a change of clocks in Berlin in 2026: begin, change, hours before and after.
const CHANGES: [(&str, &str, i64, i64); 2] = [
    ("2026-03-25T00:00:00Z", "2026-03-29T01:00:00Z", 1, 2),
    ("2026-10-21T00:00:00Z", "2026-10-25T01:00:00Z", 2, 1),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn all_through_those_weeks_it_agrees_with_counting_on_the_fingers(
        week in 0..2_usize,
        ms in 0..7 * 86_400_000_i64,
        days in prop::collection::vec(0..7_i64, 1..4),
        hours in prop::collection::vec((0..24_i64, 0..24_i64), 1..3),
        window in prop::option::of((0..1440_i64, 0..1440_i64)),
    ) {
        let (begin, change, before, after) = CHANGES[week];
        let now = at(begin) + ms;
        let local = now + 3_600_000 * if now < at(change) { before } else { after };
        let minute = local / 60_000 % 1440;
        let day = (local / 86_400_000 + 4) % 7; // 1970-01-01 was a Thursday
        let between = |x: i64, from: i64, to: i64| {
            if from <= to { from <= x && x < to } else { !(to <= x && x < from) }
        };
        let right = days.contains(&day)
            && hours.iter().any(|(from, to)| between(minute / 60, *from, (*to + 1) % 24)
                || *from == (*to + 1) % 24)
            && window.is_none_or(|(from, to)| between(minute, from, to));
        let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let ranges: Vec<_> = hours.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let schedule: Schedule = serde_json::from_value(json!({
            "start_time": window.map(|(from, _)| clock(from)),
            "end_time": window.map(|(_, to)| clock(to)),
            "days": days,
            "hours": ranges,
            "timezone": "Europe/Berlin",
        })).unwrap();
        prop_assert_eq!(schedule.holds(now), right, "{:?} at {} ms", schedule, now);
    }
}
