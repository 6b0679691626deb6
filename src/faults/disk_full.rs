//! A disk that is full up to so many percent: of the budget of the node's own data ([`Quota`]), or
//! of the real volume of a folder, which then is full for everybody who uses it.
//!
//! One thread, `fault-disk`, looks every [`TICK`] at how full it is and takes or gives back what
//! the curve asks for then; others who write or delete meanwhile are made up for at the next look.
//! The volume is filled by `fallocate` on a file without a name: nothing is written, and a `kill
//! -9` gives it all back.
//!
//! - `DISK-1` less than the [`volume::Floor`] is never left to others: it is looked at before each
//!   step, and where they eat into it they get room back;
//! - `DISK-2` percent are those of `df`, unless said otherwise ([`volume::Usage`]);
//! - `DISK-3` what is taken has no name, and is given back by the end of the thread, also by a
//!   panic.
//!
//! The curve is in percent, 0 to 100; what others have taken counts, so that a volume which is 40
//! % full by itself is not emptied by asking for 30 (`surplus_percent_s` in what it did besides).
//!
//! Sources: fault-fidelity section 5 (measured on ext4: `df` within 0.001 points in 6-27 ms, given
//! back in 0.15 ms; ramp by 20 ms steps within 0.06 MiB at 1.1 % of a core).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::books::{Books, Stand};
use self::level::{Plan, Stride};
use self::tank::{Filler, Room, Share, Tank};
use self::volume::Floor;
use super::crew::{Crew, Job};
use super::effect::{Curve, Effect, Progress, Refusal, Released};
use super::term::Term;

mod books;
mod level;
#[cfg(test)]
#[path = "disk_full/tests/outside.rs"]
pub(in crate::faults) mod outside;
mod tank;
pub mod volume;

/// How often it looks and takes a step.
pub const TICK: Duration = Duration::from_millis(20);

/// A budget of bytes that a store keeps to, and of which a fault may take a part.
///
/// The part must be forgotten when the process ends: it is a fault's, and nobody would give it
/// back.
pub trait Quota: Send + Sync {
    /// How many bytes there may be.
    fn budget_bytes(&self) -> u64;

    /// How many are taken, by data and by [`reserve`](Quota::reserve) together.
    fn used_bytes(&self) -> u64;

    /// From now on so many bytes are taken by the fault, in place of what was; 0 gives all back.
    fn reserve(&self, bytes: u64);
}

/// What is to be filled.
#[derive(Clone)]
pub enum Target {
    /// The budget of a store. One effect at a time: there is but one reserve.
    Quota(Arc<dyn Quota>),
    /// The volume of a folder, whoever else uses it (see [`volume::device_of`]).
    RealVolume {
        /// A folder that we may write to.
        folder: PathBuf,
        /// What is left to others whatever is asked for.
        floor: Floor,
    },
}

/// Starts to fill; the curve is in percent.
///
/// # Errors
/// A budget or volume without bytes, a floor that makes no sense or is reached already, a folder in
/// which no file can be made, a file system without `fallocate`.
pub fn start(target: Target, curve: Curve, term: Term) -> Result<Box<dyn Effect>, Refusal> {
    let tank: Box<dyn Tank> = match target {
        Target::Quota(quota) => Box::new(Share::of(quota)?),
        Target::RealVolume { folder, floor } => Box::new(Filler::new(&folder, floor)?),
    };
    let desk =
        Arc::new(Desk { begun: Instant::now(), books: Mutex::new(Books::new(&*curve)), curve });
    let job: Job = {
        let desk = desk.clone();
        Box::new(move |term| desk.work(tank, term))
    };
    let crew = Crew::start(&term, vec![("fault-disk".to_owned(), job)])?;
    Ok(Box::new(DiskFull { desk, crew }))
}

struct DiskFull {
    desk: Arc<Desk>,
    crew: Crew,
}

impl Effect for DiskFull {
    fn progress(&self) -> Progress {
        self.desk.books().progress(self.desk.begun)
    }

    fn release(mut self: Box<Self>) -> Released {
        let ended = self.crew.finish();
        ended.with(self.desk.books().last(self.desk.begun))
    }
}

/// What the thread and whoever looks have in common.
struct Desk {
    begun: Instant,
    curve: Curve,
    books: Mutex<Books>,
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the term is over; gives when it stopped.
    fn work(&self, mut tank: Box<dyn Tank>, term: &Term) -> Instant {
        let mut stride = Stride::default();
        while term.over().is_none() {
            if !self.step(&mut *tank, &mut stride) {
                let tick = level::next_tick(self.begun.elapsed());
                term.wait(self.begun + tick);
            }
        }
        let stopped = Instant::now();
        self.books().close(stopped - self.begun, &*self.curve);
        tank.give_back();
        if let Ok(room) = tank.room() {
            self.books().left(room.percent());
        }
        stopped
    }

    /// One step towards what is asked for now; says whether another is needed at once.
    fn step(&self, tank: &mut dyn Tank, stride: &mut Stride) -> bool {
        let now = self.begun.elapsed();
        let room = match tank.room() {
            Ok(room) => room,
            Err(e) => return self.failed(format!("look at the volume: {e}")),
        };
        let plan = Plan::new(&room, tank.held(), (self.curve)(now));
        let stand = Stand::of(&room, &plan, tank.held(), room.percent());
        self.books().looked(now, &*self.curve, stand);
        let goal = stride.towards(tank.held(), plan.allowed, room.block);
        let (begun, bytes) = (Instant::now(), goal.abs_diff(tank.held()));
        let more = match tank.hold(goal) {
            Ok(()) => {
                stride.went(bytes, begun.elapsed());
                goal != plan.allowed
            }
            Err(e) => stride.refused(room.block) || self.failed(format!("take {bytes} bytes: {e}")),
        };
        self.look_again(tank, &room, &plan);
        more
    }

    fn look_again(&self, tank: &dyn Tank, before: &Room, plan: &Plan) {
        let found = tank.room().map_or(before.percent(), |room| room.percent());
        let stand = Stand::of(before, plan, tank.held(), found);
        let mut books = self.books();
        books.stepped(self.begun.elapsed(), &*self.curve, stand);
        books.stands(before, plan, tank.held());
        books.aside = tank.aside();
    }

    fn failed(&self, why: String) -> bool {
        self.books().limited_by = Some(why);
        false
    }
}

#[cfg(test)]
mod tests;
