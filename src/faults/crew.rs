//! The threads of an effect: they begin together or not at all, and say when they stopped hurting
//! and when they had given all back.
//!
//! - `CREW-1` no job begins before all threads are there;
//! - `CREW-2` a job that panics ends the term, as failed;
//! - `CREW-3` dropping the crew ends the term and waits for the threads.

use std::sync::mpsc::{self, Receiver};
use std::thread::{self, Builder, JoinHandle};
use std::time::Instant;

use crate::faults::effect::{Progress, Refusal, Released};
use crate::faults::term::{End, Term};

/// What a thread does: until the term is over, then it gives the instant at which it stopped
/// hurting. What it owns is dropped, and so given back, by its return.
pub(in crate::faults) type Job = Box<dyn FnOnce(&Term) -> Instant + Send>;

/// Threads at work.
pub(in crate::faults) struct Crew {
    term: Term,
    hands: Vec<JoinHandle<Option<Times>>>,
}

#[derive(Clone, Copy)]
struct Times {
    stopped: Instant,
    released: Instant,
}

/// How a crew ended.
pub(in crate::faults) struct Ended {
    end: End,
    times: Times,
}

impl Ended {
    /// Together with the books.
    pub(in crate::faults) fn with(self, progress: Progress) -> Released {
        let Times { stopped, released } = self.times;
        Released { progress, end: self.end, stopped, released }
    }
}

impl Crew {
    /// One thread for each job, by its name.
    ///
    /// # Errors
    /// The system has no thread for us: then nothing was done.
    pub(in crate::faults) fn start(term: &Term, jobs: Vec<(String, Job)>) -> Result<Crew, Refusal> {
        let (mut hands, mut gates) = (Vec::new(), Vec::new());
        for (name, job) in jobs {
            let (gate, opened) = mpsc::channel();
            let term = term.clone();
            match Builder::new().name(name).spawn(move || run(&term, &opened, job)) {
                Ok(hand) => hands.push(hand),
                Err(e) => {
                    drop(gates);
                    hands.into_iter().for_each(|hand| drop(hand.join()));
                    return Err(Refusal::System { what: "start a thread", why: e.to_string() });
                }
            }
            gates.push(gate);
        }
        for gate in gates {
            let _ = gate.send(()); // CREW-1; it waits for just this
        }
        Ok(Crew { term: term.clone(), hands })
    }

    /// Ends the term, if it is not over, and waits for the threads.
    pub(in crate::faults) fn finish(&mut self) -> Ended {
        let end = self.term.over().unwrap_or_else(|| self.term.end(End::Deleted));
        let mut times: Option<Times> = None;
        for hand in self.hands.drain(..) {
            let Ok(Some(own)) = hand.join() else { continue };
            let all = times.get_or_insert(own);
            all.stopped = all.stopped.max(own.stopped);
            all.released = all.released.max(own.released);
        }
        let now = Instant::now();
        Ended { end, times: times.unwrap_or(Times { stopped: now, released: now }) }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.finish(); // CREW-3
    }
}

fn run(term: &Term, opened: &Receiver<()>, job: Job) -> Option<Times> {
    let _alarm = Alarm(term);
    opened.recv().ok()?;
    let stopped = job(term);
    Some(Times { stopped, released: Instant::now() })
}

struct Alarm<'a>(&'a Term);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end(End::Failed); // CREW-2
        }
    }
}
