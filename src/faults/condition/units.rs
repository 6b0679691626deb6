//! Days of the week and hours of the day.

use std::fmt;

use jiff::civil::Weekday;
use serde::{Deserialize, Serialize};

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "Written")]
pub enum Day {
    /// 0, as in cron and Go.
    Sunday,
    /// 1.
    Monday,
    /// 2.
    Tuesday,
    /// 3.
    Wednesday,
    /// 4.
    Thursday,
    /// 5.
    Friday,
    /// 6.
    Saturday,
}

impl Day {
    /// All of them, by their number, with their names.
    pub const ALL: [(Day, &str); 7] = [
        (Day::Sunday, "sunday"),
        (Day::Monday, "monday"),
        (Day::Tuesday, "tuesday"),
        (Day::Wednesday, "wednesday"),
        (Day::Thursday, "thursday"),
        (Day::Friday, "friday"),
        (Day::Saturday, "saturday"),
    ];

    /// Of a date.
    pub fn of(weekday: Weekday) -> Day {
        Day::ALL[weekday.to_sunday_zero_offset() as usize].0 // which is from 0 to 6
    }
}

impl From<Day> for &'static str {
    fn from(day: Day) -> &'static str {
        &Day::ALL[day as usize].1[..3] // their numbers are their places
    }
}

/// A number, or text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number or text")]
enum Written {
    Number(u64),
    Text(String),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Number(number) => write!(f, "{number}"),
            Written::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl TryFrom<Written> for Day {
    type Error = String;

    fn try_from(written: Written) -> Result<Day, String> {
        let found = match &written {
            Written::Number(number) => {
                usize::try_from(*number).ok().and_then(|number| Day::ALL.get(number))
            }
            Written::Text(text) => Day::ALL.iter().find(|(_, name)| {
                text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3])
            }),
        };
        found.map(|(day, _)| *day).ok_or_else(|| {
            format!("expected a day: mon to sun, or 0 (sunday) to 6 (saturday), got {written}")
        })
    }
}

/// Hours of the day, both included; over midnight where the first is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "HoursWritten", try_from = "Written")]
pub struct Hours {
    from: u8,
    to: u8,
}

impl Hours {
    /// None: one is no hour.
    pub fn new(from: u8, to: u8) -> Option<Hours> {
        (from < 24 && to < 24).then_some(Hours { from, to })
    }

    /// Whether an hour is among them.
    pub fn has(self, hour: u8) -> bool {
        if self.from <= self.to {
            (self.from..=self.to).contains(&hour)
        } else {
            hour >= self.from || hour <= self.to
        }
    }
}

impl TryFrom<Written> for Hours {
    type Error = String;

    fn try_from(written: Written) -> Result<Hours, String> {
        let found = match &written {
            Written::Number(hour) => u8::try_from(*hour).ok().map(|hour| (hour, hour)),
            Written::Text(text) => {
                let (from, to) = text.split_once('-').unwrap_or((text, text));
                from.parse().ok().zip(to.parse().ok())
            }
        };
        found
            .and_then(|(from, to)| Hours::new(from, to))
            .ok_or_else(|| format!("expected an hour from 0 to 23, or \"8-17\", got {written}"))
    }
}

/// As it is written: one hour is a number, as the original had it.
#[derive(Serialize)]
#[serde(untagged)]
enum HoursWritten {
    One(u8),
    Several(String),
}

impl From<Hours> for HoursWritten {
    fn from(Hours { from, to }: Hours) -> HoursWritten {
        if from == to {
            HoursWritten::One(from)
        } else {
            HoursWritten::Several(format!("{from}-{to}"))
        }
    }
}
