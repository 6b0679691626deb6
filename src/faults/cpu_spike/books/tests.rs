//! The books of the burners, stepped with numbers alone.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::faults::term::SLICE;

/// A step of the simulated machine.
const TICK: f64 = 1e-4;

struct Thread {
    id: u64,
    index: u32,
    left: f64,
    wake: f64,
}

/// A machine on which threads burn what the books tell them, beside a service.
struct World {
    books: Books,
    now: Reading,
    threads: Vec<Thread>,
    /// What the service uses, in cores.
    service: f64,
    /// What the burners get at most, in cores.
    grant: f64,
}

impl World {
    fn new() -> World {
        let now = Reading::default();
        World { books: Books::new(now), now, threads: vec![], service: 0.0, grant: f64::INFINITY }
    }

    fn open(&mut self, id: u64, curve: Curve, cores: f64, threads: u32) {
        self.books.open(id, curve, cores, threads);
        let thread = |index| Thread { id, index, left: 0.0, wake: self.now.at };
        self.threads.extend((0..threads).map(thread));
    }

    fn close(&mut self, id: u64) {
        self.books.close(id);
        self.threads.retain(|t| t.id != id);
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds / TICK).round() as u64 {
            let World { books, now, threads, .. } = self;
            for thread in threads.iter_mut().filter(|t| t.wake <= now.at) {
                books.advance(*now);
                let slot = books.slot(thread.id, thread.index).unwrap();
                let left = slot.until - now.at;
                assert!((0.0..=left).contains(&slot.burn) && left <= SLOT, "{slot:?}"); // BOOKS-1
                (thread.left, thread.wake) = (slot.burn, slot.until);
            }
            let wanted: f64 = threads.iter().map(|t| t.left.min(TICK)).sum();
            let part = if wanted > 0.0 { (self.grant * TICK / wanted).min(1.0) } else { 0.0 };
            for thread in threads {
                let burnt = thread.left.min(TICK) * part;
                thread.left -= burnt;
                now.burnt += burnt;
                now.cpu += burnt;
            }
            now.cpu += self.service * TICK;
            now.at += TICK;
        }
        self.books.advance(self.now);
    }

    fn view(&self, id: u64) -> View {
        self.books.view(id).unwrap()
    }

    /// BOOKS-2, with what is owed taken from outside the books of the fault.
    fn adds_up(&self, id: u64, owed: f64) -> bool {
        let view = self.view(id);
        let sum = view.effective_total + view.shortfall_total - view.excess_total;
        (view.requested_total - sum).abs() <= owed + 1e-6
    }
}

fn steady(cores: f64) -> Curve {
    Arc::new(move |_| cores)
}

/// Steps between two levels, each so long.
fn square(high: f64, low: f64, length: f64) -> Curve {
    Arc::new(
        move |t| if ((t.as_secs_f64() / length) as u64).is_multiple_of(2) { high } else { low },
    )
}

fn wild() -> impl Strategy<Value = f64> {
    let special = [0.0, 1e-9, 1e300, f64::INFINITY, f64::NAN, -1.0];
    prop_oneof![0.0..4.0, prop::sample::select(special.to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_clocks_say_a_burn_fits_its_slot_and_a_slot_is_shorter_than_a_slice(
        rates in prop::collection::vec((wild(), 0.01..4.0, 1_u32..9), 1..4),
        steps in prop::collection::vec((0.0..2.0, 0.0..1.0, 0_usize..4, any::<bool>()), 1..60),
    ) {
        let mut books = Books::new(Reading::default());
        for (id, (rate, cores, threads)) in rates.iter().enumerate() {
            books.open(id as u64, steady(*rate), *cores, *threads);
        }
        let mut now = Reading::default();
        for (pass, used, who, tiny) in steps {
            now.at += if tiny { pass * 1e-6 } else { pass };
            now.cpu += used;
            now.burnt += used / 2.0;
            books.advance(now);
            let who = who % rates.len();
            for index in 0..rates[who].2 {
                let slot = books.slot(who as u64, index).unwrap();
                let left = slot.until - books.last.at;
                prop_assert!(slot.burn >= 0.0 && slot.burn <= left, "{slot:?}");
                prop_assert!((0.0..=SLICE.as_secs_f64() / 2.0).contains(&left), "{slot:?}");
            }
            let view = books.view(who as u64).unwrap();
            let finite = [view.requested, view.effective, view.shortfall_total, view.excess_total];
            prop_assert!(finite.iter().all(|x| x.is_finite() && *x >= 0.0), "{view:?}");
        }
    }

    #[test]
    fn on_a_perfect_machine_the_total_is_the_sum_of_the_targets_and_the_error_does_not_grow(
        faults in prop::collection::vec((0.02..1.9, 0.02..1.0, 0.01..1.0, 1_u32..5), 1..4),
        own in 0.0..0.9,
    ) {
        let mut world = World::new();
        let lows: f64 = faults.iter().map(|(cores, low, ..)| 0.95 * cores * low).sum();
        world.service = own * lows; // below the target at any time
        let mut limit = 0.0;
        for (id, (cores, low, length, crowd)) in faults.iter().enumerate() {
            let cores: f64 = *cores;
            let curve = square(0.95 * cores, 0.95 * cores * low, *length);
            world.open(id as u64, curve, cores, crowd * cores.ceil() as u32);
            limit += 2.0 * SLOT * cores.ceil();
        }
        for _ in 0..3 {
            world.run(1.0);
            let views: Vec<View> = (0..faults.len()).map(|id| world.view(id as u64)).collect();
            let asked: f64 = views.iter().map(|v| v.requested_total).sum();
            prop_assert!((world.now.cpu - asked).abs() <= limit, "{} {asked}", world.now.cpu);
            for (id, view) in views.iter().enumerate() {
                prop_assert!(view.shortfall_total < 1e-9 && view.excess_total < 1e-9, "{view:?}");
                prop_assert!(world.adds_up(id as u64, limit), "{view:?}");
                prop_assert_eq!(&view.limited_by, &None);
            }
        }
    }

    #[test]
    fn what_the_machine_does_not_give_is_counted_and_not_paid_back(
        target in 0.4..0.95, part in 0.0..0.9, hole in 0.5..2.0,
    ) {
        let mut world = World::new();
        world.open(0, steady(target), 1.0, 1);
        world.grant = target * part;
        world.run(hole);
        let starved = world.view(0);
        let missing = target * hole - world.now.cpu;
        prop_assert!((starved.shortfall_total + WINDUP - missing).abs() < SLOT
            || missing < WINDUP + SLOT, "{starved:?} {missing}");
        prop_assert!(world.adds_up(0, WINDUP), "{starved:?}");
        let before = world.now.cpu;
        world.grant = f64::INFINITY;
        world.run(2.0);
        let after = world.now.cpu - before - 2.0 * target;
        prop_assert!(after <= WINDUP + SLOT, "paid back {after}"); // BOOKS-3
        prop_assert!(world.adds_up(0, SLOT));
        if missing > WINDUP + SLOT {
            prop_assert!(starved.limited_by.is_some_and(|why| why.contains("the machine")));
            prop_assert!(starved.shortfall_total > 0.0);
        }
    }

    #[test]
    fn a_service_that_uses_more_is_named_and_the_burners_idle_until_it_does_not(
        target in 0.05..0.8, beyond in 0.05..1.0,
    ) {
        let mut world = World::new();
        world.open(0, steady(target), 1.0, 1);
        world.service = target + beyond;
        world.run(0.3);
        let burnt = world.now.burnt;
        world.run(1.0);
        let view = world.view(0);
        prop_assert_eq!(world.now.burnt, burnt);
        prop_assert_eq!(view.limited_by.as_deref(), Some("the service itself uses more"));
        prop_assert!((view.effective - world.service).abs() < 0.01, "{view:?}");
        prop_assert!(world.adds_up(0, WINDUP), "{view:?}");
        world.service = 0.0;
        world.run(0.15 + WINDUP / target);
        let resumed = world.view(0);
        let off: f64 = resumed.effective - target;
        prop_assert!(off.abs() < 0.07, "{resumed:?}");
        prop_assert_eq!(resumed.limited_by, None);
    }
}

#[test]
fn a_fault_that_is_over_takes_its_part_and_its_debt_with_it() {
    let mut world = World::new();
    world.open(7, steady(0.3), 1.0, 2);
    world.open(8, steady(0.5), 1.0, 1);
    world.grant = 0.2;
    world.run(1.0); // both are owed something
    world.grant = f64::INFINITY;
    world.close(8);
    let (over, cpu) = (world.view(8), world.now.cpu);
    assert!(world.adds_up(8, 0.0) && over.shortfall_total > 0.3, "{over:?}");
    assert_eq!((over.requested, over.effective), (0.0, 0.0));
    world.run(1.0);
    let used = world.now.cpu - cpu;
    assert!((used - 0.3).abs() < WINDUP, "{used}");
    assert_eq!(world.view(8), over);
    assert!(world.adds_up(7, SLOT));
    world.books.remove(8);
    assert_eq!(world.books.view(8), None);
    assert_eq!(world.books.slot(8, 0), None);
}

#[test]
fn each_fault_is_credited_its_own_part_of_the_sum_for_as_long_as_it_goes() {
    let mut world = World::new();
    world.open(0, steady(0.5), 1.0, 1);
    world.open(1, square(0.9, 0.0, 0.05), 1.0, 4);
    world.run(8.0);
    for id in [0, 1] {
        assert!(world.adds_up(id, 2.0 * SLOT), "{:?}", world.view(id));
    }
    assert!((world.now.cpu - 8.0 * 0.95).abs() < 2.0 * SLOT, "{}", world.now.cpu);
}

#[test]
fn where_one_group_gets_no_turn_the_other_keeps_the_total() {
    let mut world = World::new();
    world.open(0, steady(0.3), 1.0, 1);
    world.open(1, steady(0.4), 1.0, 1);
    world.threads.retain(|t| t.id == 0); // as if nice 19 on a full core
    world.run(3.0);
    assert!((world.now.cpu - 3.0 * 0.7).abs() < 2.0 * WINDUP, "{}", world.now.cpu);
    assert_eq!(world.view(1).shortfall_total, 0.0);
}

#[test]
fn it_settles_in_the_first_whole_window_that_is_near_and_not_before() {
    let mut world = World::new();
    world.open(0, steady(0.5), 1.0, 1);
    world.run(0.09);
    assert_eq!((world.view(0).onset, world.view(0).settled), (Some(0.0), None));
    world.run(0.1);
    let settled = world.view(0).settled.unwrap();
    assert!((0.1..0.12).contains(&settled), "{settled}");
    let mut starved = World::new();
    starved.open(0, steady(0.5), 1.0, 1);
    starved.grant = 0.4;
    starved.run(1.0);
    assert_eq!(starved.view(0).settled, None);
}

#[test]
fn what_is_asked_beyond_the_ceiling_is_shortfall_from_the_first_moment() {
    let mut world = World::new();
    world.open(0, steady(1.5), 0.5, 1);
    world.run(1.0);
    let view = world.view(0);
    assert!((world.now.cpu - 0.5).abs() < SLOT, "{}", world.now.cpu);
    assert!((view.shortfall_total - 1.0).abs() < 1e-6, "{view:?}");
    assert_eq!(view.requested, 1.5);
    assert_eq!(view.limited_by.as_deref(), Some("its ceiling of 0.5 cores"));
}

#[test]
fn slots_of_threads_end_evenly_spread() {
    let ends: Vec<f64> = (0..4).map(|n| slot_end(10.0, f64::from(n) / 4.0)).collect();
    let mut phases: Vec<f64> = ends.iter().map(|end| (end / SLOT).fract()).collect();
    phases.sort_by(f64::total_cmp);
    for pair in phases.windows(2) {
        assert!((pair[1] - pair[0] - 0.25).abs() < 1e-6, "{phases:?}");
    }
    assert!(ends.iter().all(|end| *end > 10.0 && *end <= 10.0 + SLOT));
}
