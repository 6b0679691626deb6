//! When a rule applies: between two moments, on days of the week, in hours of the day, in a time
//! zone.
//!
//! - `SCHED-1` an instant has exactly one local time, so nothing here can be ambiguous: where
//!   clocks go forward the hour that is left out never comes, where they go back it comes twice;
//! - `SCHED-2` the zone's rules are those compiled in, whatever the machine has;
//! - `SCHED-3` what cannot be read never holds.
//!
//! All that is given must hold. The day is that of the moment itself: of `22:00` to `06:00` on
//! Fridays, the part after midnight is on Saturdays, and does not hold.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use super::units::{Day, Hours};
use super::{Wrong, wrong};

/// SCHED-2
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A schedule of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// From then on: RFC 3339, or `HH:MM` of each day in the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// Until then, itself not: RFC 3339, or `HH:MM`, which may be over midnight from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// On these days; None: on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
    /// In these hours; None: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Vec<Hours>>,
    /// An IANA name; None or empty: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

impl Schedule {
    /// Whether it holds at a time (ms since 1970, UTC).
    pub fn holds(&self, now_ms: i64) -> bool {
        self.read().is_ok_and(|read| read.holds(now_ms)) // SCHED-3
    }

    /// Whether it can be read, and can hold at all.
    ///
    /// # Errors
    /// The field, and what would be right.
    pub fn check(&self) -> Result<(), Wrong> {
        self.read()?.check(["start_time", "end_time"])
    }

    pub(super) fn read(&self) -> Result<Read<'_>, Wrong> {
        Ok(Read {
            window: Window::read(&self.start_time, &self.end_time, ["start_time", "end_time"])?,
            days: self.days.as_deref(),
            hours: self.hours.as_deref(),
            zone: zone(self.timezone.as_deref().unwrap_or_default())?,
        })
    }
}

fn zone(name: &str) -> Result<TimeZone, Wrong> {
    match name {
        "" => Ok(TimeZone::UTC),
        name => ZONES.get(name).or_else(|_| {
            let expected = "expected an IANA name like \"Europe/Berlin\" or \"UTC\"";
            wrong("timezone", format!("{expected}, got {name:?}"))
        }),
    }
}

/// A schedule that could be read.
pub(super) struct Read<'a> {
    pub window: Window,
    pub days: Option<&'a [Day]>,
    pub hours: Option<&'a [Hours]>,
    pub zone: TimeZone,
}

impl Read<'_> {
    /// A window alone, in UTC.
    pub fn of_window(window: Window) -> Read<'static> {
        Read { window, days: None, hours: None, zone: TimeZone::UTC }
    }

    pub fn holds(&self, now_ms: i64) -> bool {
        let Ok(now) = Timestamp::from_millisecond(now_ms) else { return false };
        let local = self.zone.to_datetime(now); // SCHED-1
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        self.window.has(now) && self.has(Day::of(local.weekday()), minute as u16)
    }

    /// Whether it holds on such a day in such a minute of the day, as far as these decide.
    pub fn has(&self, day: Day, minute: u16) -> bool {
        let hour = (minute / 60) as u8;
        self.window.has_minute(minute)
            && self.days.is_none_or(|days| days.contains(&day))
            && self.hours.is_none_or(|hours| hours.iter().any(|hours| hours.has(hour)))
    }

    pub fn check(&self, names: [&str; 2]) -> Result<(), Wrong> {
        let list = |field: &str, length: Option<usize>, most: usize| match length {
            Some(length) if length == 0 || length > most => {
                wrong(field, format!("expected 1 to {most}, or no field for all, got {length}"))
            }
            _ => Ok(()),
        };
        list("days", self.days.map(<[_]>::len), 7)?;
        list("hours", self.hours.map(<[_]>::len), 24)?;
        self.window.check(names)
    }
}

/// An instant, or a minute of each day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    Instant(Timestamp),
    Minute(u16),
}

impl Moment {
    fn read(text: &str) -> Result<Moment, String> {
        let minute = || {
            let (hour, minute) = text.split_once(':')?;
            let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            if !digits(hour) || !digits(minute) {
                return None;
            }
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(Moment::Minute(hour * 60 + minute))
        };
        let expected = "expected a time like \"2026-11-28T15:00:00Z\" or \"15:00\"";
        minute()
            .or_else(|| text.parse().ok().map(Moment::Instant))
            .ok_or_else(|| format!("{expected}, got {text:?}"))
    }
}

/// From one moment to another, that one not included. Either may lack.
pub(super) struct Window {
    pub from: Option<Moment>,
    pub to: Option<Moment>,
}

impl Window {
    pub fn read(
        from: &Option<String>,
        to: &Option<String>,
        names: [&str; 2],
    ) -> Result<Window, Wrong> {
        let read = |text: &Option<String>, name: &str| {
            text.as_deref().map(Moment::read).transpose().or_else(|why| wrong(name, why))
        };
        Ok(Window { from: read(from, names[0])?, to: read(to, names[1])? })
    }

    /// Its instants.
    pub fn instants(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let instant = |moment| match moment {
            Some(Moment::Instant(at)) => Some(at),
            _ => None,
        };
        (instant(self.from), instant(self.to))
    }

    fn has(&self, now: Timestamp) -> bool {
        let (from, to) = self.instants();
        from.is_none_or(|from| now >= from) && to.is_none_or(|to| now < to)
    }

    fn has_minute(&self, now: u16) -> bool {
        match (self.from, self.to) {
            (Some(Moment::Minute(from)), Some(Moment::Minute(to))) if from > to => {
                now >= from || now < to // over midnight
            }
            (from, to) => {
                let after = |from| !matches!(from, Some(Moment::Minute(from)) if now < from);
                let before = |to| !matches!(to, Some(Moment::Minute(to)) if now >= to);
                after(from) && before(to)
            }
        }
    }

    fn check(&self, [from_name, to_name]: [&str; 2]) -> Result<(), Wrong> {
        let empty = match (self.from, self.to) {
            (Some(Moment::Instant(from)), Some(Moment::Instant(to))) => from >= to,
            (Some(Moment::Minute(from)), Some(Moment::Minute(to))) => from == to,
            (None, Some(Moment::Minute(0))) => true,
            _ => false,
        };
        if empty {
            return wrong(to_name, format!("expected a time after {from_name}: it never holds"));
        }
        Ok(())
    }
}
