//! Shapes: bounds, the same answer each time, and that each goes as its name says.

use proptest::prelude::*;

use super::*;

fn shapes() -> impl Strategy<Value = Shape> {
    let time = || SHORTEST..LONGEST;
    let part = || 0.0..=1.0;
    prop_oneof![
        Just(Shape::Step {}),
        (time(), part()).prop_map(|(over, low)| Shape::Ramp { over, low }),
        (time(), part()).prop_map(|(period, low)| Shape::Sine { period, low }),
        (time(), part(), part()).prop_map(|(period, duty, low)| Shape::Square {
            period,
            duty,
            low
        }),
        (1e-6..20.0, time(), part()).prop_map(|(per_second, length, low)| Shape::Burst {
            per_second,
            length,
            low
        }),
        (time(), part()).prop_map(|(period, low)| Shape::Sawtooth { period, low }),
        (time(), part()).prop_map(|(pace, low)| Shape::RandomWalk { pace, low }),
        (time(), time()).prop_map(|(on, off)| Shape::Flapping { on, off }),
        prop::collection::vec((0.0..1e6, part()), 1..20).prop_map(|mut points: Vec<(f64, f64)>| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Shape::Table { points }
        }),
    ]
}

proptest! {
    #[test]
    fn the_factor_is_from_0_to_1_and_the_same_each_time(
        shape in shapes(), seconds in 0.0..1e9, seed: u64,
    ) {
        prop_assert_eq!(shape.check(), Ok(()));
        let at = Duration::from_secs_f64(seconds);
        let factor = shape.at(at, seed);
        prop_assert!((0.0..=1.0).contains(&factor), "{factor}"); // SHAPE-1
        shape.at(Duration::from_secs(5), seed ^ 1);
        prop_assert_eq!(factor, shape.at(at, seed)); // SHAPE-2
    }

    #[test]
    fn no_numbers_whatever_make_a_factor_beyond_its_bounds(
        a: f64, b: f64, c: f64, seconds in 0.0..1e9, seed: u64,
    ) {
        let (period, over, on, pace) = (a, a, a, a);
        for shape in [
            Shape::Ramp { over, low: b },
            Shape::Sine { period, low: b },
            Shape::Square { period, duty: b, low: c },
            Shape::Burst { per_second: a, length: b, low: c },
            Shape::Sawtooth { period, low: b },
            Shape::RandomWalk { pace, low: b },
            Shape::Flapping { on, off: b },
            Shape::Table { points: vec![(a, b), (c, a)] },
            Shape::Table { points: vec![] },
        ] {
            let factor = shape.at(Duration::from_secs_f64(seconds), seed);
            prop_assert!((0.0..=1.0).contains(&factor), "{shape:?}: {factor}");
        }
    }

    #[test]
    fn a_shape_is_read_back_as_it_was_written(shape in shapes()) {
        let text = serde_json::to_string(&shape).unwrap();
        let back: Shape = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(text, serde_json::to_string(&back).unwrap());
    }
}

/// The factors over some time, one each 10 ms.
fn over(shape: &Shape, seconds: u64, seed: u64) -> Vec<f64> {
    (0..seconds * 100).map(|n| shape.at(Duration::from_millis(10 * n), seed)).collect()
}

fn mean(factors: &[f64]) -> f64 {
    factors.iter().sum::<f64>() / factors.len() as f64
}

#[test]
fn each_shape_goes_as_its_name_says() {
    let at = |shape: &Shape, seconds| shape.at(Duration::from_secs_f64(seconds), 0);
    let rows: &[(Shape, &[(f64, f64)])] = &[
        (Shape::Step {}, &[(0.0, 1.0), (1e6, 1.0)]),
        (Shape::Ramp { over: 10.0, low: 0.2 }, &[(0.0, 0.2), (5.0, 0.6), (10.0, 1.0), (99.0, 1.0)]),
        (Shape::Sine { period: 8.0, low: 0.0 }, &[(0.0, 0.5), (2.0, 1.0), (6.0, 0.0)]),
        (
            Shape::Square { period: 4.0, duty: 0.25, low: 0.1 },
            &[(0.9, 1.0), (1.1, 0.1), (4.5, 1.0)],
        ),
        (Shape::Sawtooth { period: 4.0, low: 0.0 }, &[(0.0, 0.0), (3.0, 0.75), (4.0, 0.0)]),
        (
            Shape::Table { points: vec![(1.0, 0.2), (2.0, 0.4), (2.0, 0.8)] },
            &[(0.0, 0.2), (1.5, 0.3), (2.0, 0.8), (9.0, 0.8)],
        ),
    ];
    for (shape, points) in rows {
        for (seconds, factor) in *points {
            let found = at(shape, *seconds);
            assert!((found - factor).abs() < 1e-9, "{shape:?} at {seconds}: {found}");
        }
    }
}

#[test]
fn bursts_are_on_as_often_as_a_poisson_process_has_it() {
    for (per_second, length) in [(0.1, 2.0), (0.5, 2.0), (2.0, 0.5), (0.02, 10.0)] {
        let shape = Shape::Burst { per_second, length, low: 0.0 };
        let on = mean(&over(&shape, 20_000, 7));
        let expected = 1.0 - (-per_second * length).exp();
        assert!((on - expected).abs() < 0.03, "{shape:?}: {on}, not {expected}");
    }
}

#[test]
fn a_random_walk_wanders_everywhere_without_jumps_and_differs_by_seed() {
    let shape = Shape::RandomWalk { pace: 10.0, low: 0.0 };
    let walk = over(&shape, 5000, 3);
    let step = walk.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f64::max);
    assert!(step < 0.15, "a jump of {step}");
    let share = |from: f64, to: f64| {
        walk.iter().filter(|x| (from..to).contains(*x)).count() as f64 / walk.len() as f64
    };
    for quarter in 0..4 {
        let from = f64::from(quarter) / 4.0;
        assert!(share(from, from + 0.25) > 0.1, "hardly ever in {from} to {}", from + 0.25);
    }
    assert_ne!(walk, over(&shape, 5000, 4));
}

#[test]
fn flapping_is_on_and_off_for_about_as_long_as_was_said() {
    let flaps = over(&Shape::Flapping { on: 2.0, off: 3.0 }, 5000, 1);
    assert!((mean(&flaps) - 0.4).abs() < 0.03, "{}", mean(&flaps));
    let turns = flaps.windows(2).filter(|w| w[0] != w[1]).count();
    assert!((1900..=2000).contains(&turns), "{turns}");
}

#[test]
fn numbers_without_sense_are_refused_with_their_field() {
    let rows = [
        (Shape::Ramp { over: 0.0, low: 0.0 }, "over"),
        (Shape::Sine { period: f64::NAN, low: 0.0 }, "period"),
        (Shape::Square { period: 1.0, duty: -0.1, low: 0.0 }, "duty"),
        (Shape::Burst { per_second: f64::INFINITY, length: 1.0, low: 0.0 }, "per_second"),
        (Shape::Sawtooth { period: 1.0, low: 1.1 }, "low"),
        (Shape::Flapping { on: 1.0, off: -1.0 }, "off"),
        (Shape::Table { points: vec![(2.0, 0.1), (1.0, 0.1)] }, "points"),
        (Shape::Table { points: vec![] }, "points"),
    ];
    for (shape, field) in rows {
        assert_eq!(shape.check().unwrap_err().0, field, "{shape:?}");
    }
}
