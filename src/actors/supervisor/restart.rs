//! What a supervisor decides: which children end, which start, when, and when it gives up.
//!
//! Pure: no actor, clock or randomness; times and jitter come in as values. The words are OTP's
//! (<https://www.erlang.org/doc/system/sup_princ.html>).
//!
//! - `RST-1` a child that ended is started again after its backoff, never earlier;
//! - `RST-2` more than `max_restarts` ends within `window` escalate, once;
//! - `RST-3` one-for-one touches only the child; one-for-all all of them; rest-for-one those that
//!   were started after it; nobody is started before all that must end have ended;
//! - `RST-4` children are started in their order, under one-for-all and rest-for-one one by one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Who is restarted when one child ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Only the child that ended.
    OneForOne,
    /// All children.
    OneForAll,
    /// The child that ended and those started after it.
    RestForOne,
}

/// When a supervisor gives up, and how long it waits between starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many ends are borne within `window`; one more escalates.
    pub max_restarts: usize,
    /// The window of the count.
    pub window: Duration,
    /// The wait before the first restart; doubles with each end in the window.
    pub backoff: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_restarts: 10,
            window: Duration::from_secs(10),
            backoff: Duration::from_millis(20),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The supervisor starts.
    Begin,
    /// A child is up.
    Started(usize),
    /// A child ended: crashed, was killed, or did not come up.
    Ended(usize),
    /// The wait of a child is over.
    BackoffOver(usize),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start this child; answered by `Started` or `Ended`.
    Start(usize),
    /// Kill this child; answered by `Ended`.
    Kill(usize),
    /// Wait before this child is started; answered by `BackoffOver`.
    Wait(usize, Duration),
    /// Give up.
    Escalate(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be started as soon as its turn comes.
    Down,
    Starting,
    Running,
    /// Told to end, because a sibling did.
    Ending,
    /// Down until its backoff is over.
    Waiting,
}

/// The state of the decisions.
#[derive(Debug)]
pub struct Restarts {
    strategy: Strategy,
    limits: Limits,
    phases: Vec<Phase>,
    ends: VecDeque<(usize, Instant)>,
    given_up: bool,
}

impl Restarts {
    /// For `children` children, none of them started.
    pub fn new(strategy: Strategy, limits: Limits, children: usize) -> Self {
        let phases = vec![Phase::Down; children];
        Restarts { strategy, limits, phases, ends: VecDeque::new(), given_up: false }
    }

    /// Whether all children are up.
    pub fn all_running(&self) -> bool {
        self.phases.iter().all(|p| *p == Phase::Running)
    }

    /// The next effects. `jitter` in 0..1 shortens a wait by up to a quarter.
    pub fn step(&mut self, now: Instant, input: Input, jitter: f64) -> Vec<Effect> {
        if self.given_up {
            return Vec::new();
        }
        match input {
            Input::Begin => self.start_next(),
            Input::Started(child) => {
                if self.phases[child] == Phase::Starting {
                    self.phases[child] = Phase::Running;
                }
                self.start_next()
            }
            Input::BackoffOver(child) => {
                if self.phases[child] == Phase::Waiting {
                    self.phases[child] = Phase::Down;
                }
                self.start_next()
            }
            Input::Ended(child) => self.ended(now, child, jitter),
        }
    }

    fn ended(&mut self, now: Instant, child: usize, jitter: f64) -> Vec<Effect> {
        if self.phases[child] == Phase::Ending {
            self.phases[child] = Phase::Down; // as it was told
            return self.start_next();
        }
        let window = self.limits.window;
        self.ends.retain(|(_, at)| now.duration_since(*at) < window);
        self.ends.push_back((child, now));
        if self.ends.len() > self.limits.max_restarts {
            self.given_up = true; // RST-2
            return vec![Effect::Escalate(child)];
        }
        self.phases[child] = Phase::Waiting;
        let mut effects = vec![Effect::Wait(child, self.wait(child, jitter))];
        for sibling in self.affected(child) {
            if matches!(self.phases[sibling], Phase::Running | Phase::Starting) {
                self.phases[sibling] = Phase::Ending;
                effects.push(Effect::Kill(sibling));
            }
        }
        effects
    }

    /// The siblings that go with a child (RST-3).
    fn affected(&self, child: usize) -> std::ops::Range<usize> {
        match self.strategy {
            Strategy::OneForOne => 0..0,
            Strategy::OneForAll => 0..self.phases.len(),
            Strategy::RestForOne => child + 1..self.phases.len(),
        }
    }

    fn wait(&self, child: usize, jitter: f64) -> Duration {
        let before = self.ends.iter().filter(|(c, _)| *c == child).count().saturating_sub(1);
        let doubled = self.limits.backoff.saturating_mul(1 << before.min(16));
        doubled.min(self.limits.backoff_max).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
    }

    /// Starts whoever's turn it is (RST-4).
    fn start_next(&mut self) -> Vec<Effect> {
        if self.strategy == Strategy::OneForOne {
            let down: Vec<usize> = self.in_phase(Phase::Down).collect();
            return down.into_iter().map(|child| self.start(child)).collect();
        }
        let blocked = |p: &Phase| matches!(p, Phase::Ending | Phase::Waiting | Phase::Starting);
        if self.phases.iter().any(blocked) {
            return Vec::new();
        }
        let next = self.in_phase(Phase::Down).next();
        next.map(|child| self.start(child)).into_iter().collect()
    }

    fn start(&mut self, child: usize) -> Effect {
        self.phases[child] = Phase::Starting;
        Effect::Start(child)
    }

    fn in_phase(&self, phase: Phase) -> impl Iterator<Item = usize> + '_ {
        (0..self.phases.len()).filter(move |i| self.phases[*i] == phase)
    }
}

#[cfg(test)]
mod tests {
    use super::Effect::*;
    use super::*;
    use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};

    const LIMITS: Limits = Limits {
        max_restarts: 3,
        window: Duration::from_secs(10),
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_millis(350),
    };

    /// Three running children.
    fn running(strategy: Strategy) -> (Restarts, Instant) {
        let (mut core, now) = (Restarts::new(strategy, LIMITS, 3), Instant::now());
        let mut todo = core.step(now, Input::Begin, 0.0);
        while let Some(effect) = todo.pop() {
            let Start(child) = effect else { panic!("{effect:?}") };
            todo.extend(core.step(now, Input::Started(child), 0.0));
        }
        assert!(core.all_running());
        (core, now)
    }

    #[test]
    fn one_for_one_restarts_only_the_child_after_its_backoff() {
        let (mut core, now) = running(Strategy::OneForOne);
        let effects = core.step(now, Input::Ended(1), 0.0);
        assert_eq!(effects, [Wait(1, Duration::from_millis(100))]);
        assert_eq!(core.step(now, Input::BackoffOver(1), 0.0), [Start(1)]);
        assert_eq!(core.step(now, Input::Started(1), 0.0), []);
        assert!(core.all_running());
    }

    #[test]
    fn one_for_all_starts_nobody_before_all_have_ended_and_then_in_order() {
        let (mut core, now) = running(Strategy::OneForAll);
        let effects = core.step(now, Input::Ended(1), 0.0);
        assert_eq!(effects, [Wait(1, Duration::from_millis(100)), Kill(0), Kill(2)]);
        assert_eq!(core.step(now, Input::BackoffOver(1), 0.0), []);
        assert_eq!(core.step(now, Input::Ended(2), 0.0), []);
        assert_eq!(core.step(now, Input::Ended(0), 0.0), [Start(0)]);
        assert_eq!(core.step(now, Input::Started(0), 0.0), [Start(1)]);
        assert_eq!(core.step(now, Input::Started(1), 0.0), [Start(2)]);
    }

    #[test]
    fn rest_for_one_leaves_the_earlier_ones_alone() {
        let (mut core, now) = running(Strategy::RestForOne);
        let effects = core.step(now, Input::Ended(1), 0.0);
        assert_eq!(effects, [Wait(1, Duration::from_millis(100)), Kill(2)]);
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit_and_too_many_ends_escalate() {
        let (mut core, now) = running(Strategy::OneForOne);
        for millis in [100, 200, 350] {
            let effects = core.step(now, Input::Ended(0), 0.0);
            assert_eq!(effects, [Wait(0, Duration::from_millis(millis))]);
            core.step(now, Input::BackoffOver(0), 0.0);
            core.step(now, Input::Started(0), 0.0);
        }
        assert_eq!(core.step(now, Input::Ended(0), 0.0), [Escalate(0)]);
        assert_eq!(core.step(now, Input::Ended(1), 0.0), [], "it escalates once");
    }

    #[test]
    fn ends_outside_the_window_are_forgotten() {
        let (mut core, mut now) = running(Strategy::OneForOne);
        for _ in 0..20 {
            now += Duration::from_secs(4);
            let effects = core.step(now, Input::Ended(0), 0.0);
            assert!(matches!(effects[..], [Wait(0, _)]), "{effects:?}");
            core.step(now, Input::BackoffOver(0), 0.0);
            core.step(now, Input::Started(0), 0.0);
        }
    }

    fn strategies() -> impl proptest::prelude::Strategy<Value = Strategy> {
        prop_oneof![
            Just(Strategy::OneForOne),
            Just(Strategy::OneForAll),
            Just(Strategy::RestForOne)
        ]
    }

    proptest! {
        /// A world that obeys the effects, with crashes at random: RST-1 to RST-4, and in the end
        /// everybody runs, or the supervisor gave up because of too many ends.
        #[test]
        fn after_any_crashes_all_run_again_or_it_escalated(
            strategy in strategies(),
            crashes in proptest::collection::vec((0usize..4, 0u64..6000, 0usize..8), 0..40),
        ) {
            let mut core = Restarts::new(strategy, LIMITS, 4);
            let mut now = Instant::now();
            let mut alive = [false; 4];
            let mut todo: VecDeque<Effect> = core.step(now, Input::Begin, 0.0).into();
            let mut ends: Vec<Instant> = Vec::new();
            let mut escalated = false;
            let mut crashes = crashes.into_iter();
            loop {
                let crash = crashes.next();
                let steps = crash.map_or(usize::MAX, |c| c.2);
                for _ in 0..steps {
                    let Some(effect) = todo.pop_front() else { break };
                    let input = match effect {
                        Start(i) => { prop_assert!(!alive[i], "started twice"); alive[i] = true; Input::Started(i) }
                        Kill(i) => { alive[i] = false; Input::Ended(i) }
                        Wait(i, d) => { now += d; Input::BackoffOver(i) }
                        Escalate(_) => { escalated = true; break }
                    };
                    todo.extend(core.step(now, input, 0.5));
                }
                let Some((child, after, _)) = crash else { break };
                now += Duration::from_millis(after);
                if alive[child] && !todo.contains(&Kill(child)) && !escalated {
                    alive[child] = false;
                    ends.push(now);
                    todo.extend(core.step(now, Input::Ended(child), 0.5));
                }
            }
            let worst = ends.iter().map(|t| ends.iter().filter(|u| **u <= *t && *t - **u < LIMITS.window).count()).max().unwrap_or(0);
            prop_assert_eq!(escalated, worst > LIMITS.max_restarts);
            if !escalated {
                prop_assert!(core.all_running() && alive == [true; 4], "{:?}", core);
            }
        }
    }
}
