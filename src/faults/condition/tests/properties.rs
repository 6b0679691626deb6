//! What holds for all conditions and facts.

use super::*;

/// Few values, so that conditions meet and contradict each other.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,3}", "[0-9]{1,2}", Just("a*".to_owned()), Just("10.0.0.1".to_owned())]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        4 => word().prop_map(Scalar::Text),
        1 => any::<bool>().prop_map(Scalar::Bool),
        2 => (0..20_u64).prop_map(Scalar::from),
        1 => any::<i64>().prop_map(|n| Scalar::Number(n.into())),
        1 => (-1e300..1e300).prop_map(|x| {
            Scalar::Number(serde_json::Number::from_f64(x).expect("a finite number"))
        }),
    ]
}

fn operator() -> impl Strategy<Value = Operator> {
    let names: Vec<String> = Operator::list(|_| true).split(", ").map(ToOwned::to_owned).collect();
    prop::sample::select(names).prop_map(|name| name.parse().unwrap())
}

/// A test that makes sense: values as the operator wants them.
fn sensible(
    operators: impl Strategy<Value = Operator>,
    values: impl Strategy<Value = Scalar>,
) -> impl Strategy<Value = Test> {
    (operators, prop::collection::vec(values, 1..4)).prop_map(|(operator, mut values)| {
        match operator {
            _ if operator.is_presence() => Test::new(operator, Operand::None),
            Operator::In => Test::new(operator, Operand::Many(values)),
            _ => Test::new(operator, values.remove(0)),
        }
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    let field = prop::sample::select(vec!["a", "A", "b"]);
    (prop::sample::select(Subject::NAMES.to_vec()), field)
        .prop_map(|(name, field)| Subject::read(name, field).unwrap())
}

fn network() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        (0..=32_u8, 0..4_u8).prop_map(|(bits, b)| format!("10.0.{b}.1/{bits}")),
        (0..4_u8).prop_map(|b| format!("10.0.{b}.1")),
        (96..=128_u8).prop_map(|bits| format!("::ffff:10.0.0.1/{bits}")),
        (0..=128_u8).prop_map(|bits| format!("fd00::/{bits}")),
    ]
    .prop_map(Scalar::Text)
}

fn moment() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        (0..24_u8, 0..60_u8).prop_map(|(hour, minute)| format!("{hour:02}:{minute:02}")),
        (1..29_u8, 0..24_u8).prop_map(|(day, h)| format!("2026-11-{day:02}T{h:02}:00:00+01:00")),
    ])
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let day = prop::sample::select(Day::ALL.to_vec()).prop_map(|(day, _)| day);
    let hours = (0..24_u8, 0..24_u8).prop_filter_map("an hour", |(a, b)| Hours::new(a, b));
    let zone = prop::sample::select(vec!["UTC", "Europe/Berlin", "Asia/Kolkata"]);
    (
        moment(),
        moment(),
        prop::option::of(prop::collection::vec(day, 1..4)),
        prop::option::of(prop::collection::vec(hours, 1..4)),
        prop::option::of(zone.prop_map(str::to_owned)),
    )
        .prop_map(|(start_time, end_time, days, hours, timezone)| Schedule {
            start_time,
            end_time,
            days,
            hours,
            timezone,
        })
}

fn condition() -> impl Strategy<Value = Condition> {
    let counted = prop::sample::select(vec!["eq", "ne", "gt", "lt", "ge", "le", "in"])
        .prop_map(|name| name.parse::<Operator>().unwrap());
    let count = sensible(counted, (0..12_u64).prop_map(Scalar::from));
    prop_oneof![
        1 => (0.0..=1.0).prop_map(|value| Condition::Probability { value }),
        4 => (subject(), sensible(operator(), scalar()))
            .prop_map(|(subject, test)| Condition::Request { subject, test }),
        2 => sensible(operator(), network()).prop_map(|test| Condition::Ip { test }),
        2 => (prop::option::of(count), prop::option::of(1..5_u64))
            .prop_map(|(test, every)| Condition::Count(Count { test, every })),
        1 => (moment(), moment()).prop_map(|(from, to)| Condition::Time { from, to }),
        1 => schedule().prop_map(Condition::Schedule),
    ]
}

/// Facts by which such conditions can hold.
#[derive(Clone, Debug)]
struct Known {
    texts: Vec<Option<String>>,
    ip: Option<IpAddr>,
    number: u64,
    now_ms: i64,
}

fn known() -> impl Strategy<Value = Known> {
    let ip = prop_oneof![
        (0..4_u8).prop_map(|b| IpAddr::from([10, 0, b, 1])),
        Just("::ffff:10.0.0.1".parse().unwrap()),
        Just("fd00::1".parse().unwrap()),
    ];
    (
        prop::collection::vec(prop::option::of(word()), 9),
        prop::option::of(ip),
        0..12_u64,
        1_793_000_000_000..1_797_000_000_000_i64,
    )
        .prop_map(|(texts, ip, number, now_ms)| Known { texts, ip, number, now_ms })
}

/// Gives the facts to a closure: they borrow.
fn with_facts<T>(known: &Known, act: impl FnOnce(&Facts<'_>) -> T) -> T {
    let text = |n: usize| known.texts[n].as_deref();
    let headers: Vec<_> = text(7).map(|value| ("a", value)).into_iter().collect();
    let params: Vec<_> = text(8).map(|value| ("a", value)).into_iter().collect();
    act(&Facts {
        service: text(0),
        operation: text(1),
        method: text(2),
        path: text(3),
        bucket: text(4),
        key: text(5),
        user_agent: text(6),
        headers: &headers,
        params: &params,
        ip: known.ip,
        number: known.number,
        now_ms: known.now_ms,
    })
}

/// Any JSON in any field.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![
        ".{0,12}",
        "[-0-9:.T+Z/]{0,25}",
        "(2026|-9999|9999)-1[0-2]-3[01]T[0-2]3:59:60Z",
        "[\\(\\)\\[\\]a*?+{},0-9]{0,10}",
        "(mon|8-17|23|Europe/Berlin|eq|in|ne|regex|matches|exists)",
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|x| json!(x)),
        text.prop_map(|text| json!(text)),
    ];
    prop_oneof![
        3 => leaf.clone(),
        1 => prop::collection::vec(leaf, 0..4).prop_map(serde_json::Value::Array),
    ]
}

fn any_condition() -> impl Strategy<Value = serde_json::Value> {
    let kinds = vec!["probability", "ip", "count", "time", "schedule", "key", "header", "method"];
    let fields = vec![
        "operator",
        "field",
        "value",
        "every",
        "from",
        "to",
        "start_time",
        "end_time",
        "days",
        "hours",
        "timezone",
    ];
    let given = prop::collection::btree_map(prop::sample::select(fields), anything(), 0..4);
    (prop::sample::select(kinds), given).prop_map(|(kind, given)| {
        let mut all: serde_json::Map<_, _> =
            given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.insert("type".to_owned(), json!(kind));
        serde_json::Value::Object(all)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read_back(condition in condition()) {
        let text = serde_json::to_string(&condition).unwrap();
        prop_assert_eq!(serde_json::from_str::<Condition>(&text).unwrap(), condition, "{}", text);
    }

    #[test]
    fn no_input_does_harm_and_what_is_read_stays_the_same(
        all in prop::collection::vec(any_condition(), 1..4),
        number: u64, now_ms: i64, seed: u64, factor: f64, text in ".{0,20}",
    ) {
        let read = all.iter().filter_map(|json| serde_json::from_value(json.clone()).ok());
        let list: Vec<Condition> = read.collect();
        let header = [(text.as_str(), text.as_str())];
        let facts = Facts {
            key: Some(&text), headers: &header, number, now_ms, ip: put().ip, ..Facts::default()
        };
        let found = applies(&list, &facts, seed, factor);
        prop_assert_eq!(found, applies(&list, &facts, seed, factor)); // COND-1
        prop_assert!(!found || contradicts(&list).is_none());
        if check(&list).is_ok() {
            let text = serde_json::to_string(&list).unwrap();
            prop_assert_eq!(serde_json::from_str::<Vec<Condition>>(&text).unwrap(), list);
        }
    }

    #[test]
    fn what_contradicts_is_met_by_no_facts(
        list in prop::collection::vec(condition(), 1..6), known in known(), seed: u64,
    ) {
        let met = with_facts(&known, |facts| applies(&list, facts, seed, 1.0));
        prop_assert!(!met || contradicts(&list).is_none(), "{:?}", contradicts(&list)); // COND-3
    }

    #[test]
    fn of_one_kind_what_contradicts_is_met_by_no_facts(
        kind in 0..4_usize, all in prop::collection::vec(condition(), 60), known in known(),
    ) {
        let of_kind = |condition: &Condition| kind == match condition {
            Condition::Request { subject: Subject::Key, .. } => 0,
            Condition::Ip { .. } => 1,
            Condition::Count(_) => 2,
            Condition::Time { .. } | Condition::Schedule(_) => 3,
            _ => 4,
        };
        let list: Vec<_> = all.into_iter().filter(of_kind).take(3).collect();
        let met = with_facts(&known, |facts| applies(&list, facts, 1, 1.0));
        prop_assert!(!met || contradicts(&list).is_none(), "{:?}", contradicts(&list)); // COND-3
    }

    #[test]
    fn all_hold_where_each_holds(
        list in prop::collection::vec(condition(), 0..4), known in known(),
    ) {
        // of probability, the place counts
        let list: Vec<_> =
            list.into_iter().filter(|c| !matches!(c, Condition::Probability { .. })).collect();
        with_facts(&known, |facts| {
            let each = list.iter().all(|c| applies(std::slice::from_ref(c), facts, 1, 1.0));
            prop_assert_eq!(applies(&list, facts, 1, 1.0), each);
            Ok(())
        })?;
    }

    #[test]
    fn a_larger_factor_hits_what_a_smaller_one_hits(
        value in 0.0..=1.0, a in 0.0..=1.0, b in 0.0..=1.0, number: u64, seed: u64,
    ) {
        let list = [Condition::Probability { value }];
        let facts = Facts { number, ..Facts::default() };
        let (low, high) = (f64::min(a, b), f64::max(a, b));
        prop_assert!(!chosen(&list, &facts, seed, low) || chosen(&list, &facts, seed, high));
        prop_assert!(!chosen(&list, &facts, seed, 0.0) && !chosen(&list, &facts, seed, f64::NAN));
    }
}

const DRAWS: u64 = 100_000;

/// Which of the requests are hit.
fn hits(list: &[Condition], seed: u64, factor: f64) -> Vec<bool> {
    let hit = |number| applies(list, &Facts { number, ..Facts::default() }, seed, factor);
    (0..DRAWS).map(hit).collect()
}

fn assert_within_3_sigma(hits: impl Iterator<Item = bool>, expected: f64, what: &str) {
    let found = hits.filter(|hit| *hit).count() as f64;
    let n = DRAWS as f64;
    let sigma = (n * expected * (1.0 - expected)).sqrt();
    assert!((found - n * expected).abs() <= 3.0 * sigma, "{what}: {found} of {n}");
}

#[test]
fn a_probability_is_met_within_3_sigma_and_the_same_for_the_same_seed() {
    for value in [0.0, 0.001, 0.05, 0.3, 0.5, 0.99, 1.0] {
        let list = [Condition::Probability { value }];
        let mut before = None;
        for seed in [0, 1, u64::MAX] {
            let all = hits(&list, seed, 1.0);
            assert_within_3_sigma(all.iter().copied(), value, &format!("{value} by {seed}"));
            assert_eq!(all, hits(&list, seed, 1.0));
            let fixed = value == 0.0 || value == 1.0;
            assert!(before.as_ref() != Some(&all) || fixed, "{value}: two seeds, one choice");
            before = Some(all);
        }
    }
}

#[test]
fn a_factor_scales_it_and_several_are_drawn_apart() {
    let half = Condition::Probability { value: 0.5 };
    let half_of_half = hits(std::slice::from_ref(&half), 3, 0.5);
    assert_within_3_sigma(half_of_half.into_iter(), 0.25, "a factor of 0.5");
    let both = hits(&[half.clone(), half.clone()], 3, 1.0);
    assert_within_3_sigma(both.into_iter(), 0.25, "two halves");
    let all = hits(&[half], 3, 1.0);
    let same_as_next = all.iter().zip(all.iter().skip(1).chain([&true])).map(|(a, b)| a == b);
    assert_within_3_sigma(same_as_next, 0.5, "one after the other");
}
