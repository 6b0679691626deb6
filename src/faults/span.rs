//! Durations as the original wrote them: nanoseconds, or text in Go's style (`2m0s`, `1.5h`, `300ms`).
//!
//! - `SPAN-1` what is written is read back as the same number of nanoseconds;
//! - `SPAN-2` no text and no number makes one that is negative or does not fit.

use std::fmt;
use std::time::Duration;

/// The units, the longest first.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// Reads a duration: `2m0s`, `1h30m`, `1.5s`, `300ms`, `0`.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| Err(format!("{why} in {text:?}: expected a duration like \"2m0s\""));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0_u128);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return wrong(if unit.is_empty() { "a number without a unit" } else { "no such unit" });
        };
        let Some(part) = times(number, *nanos) else { return wrong("no number") };
        total += part;
        rest = after;
    }
    match u64::try_from(total) {
        Ok(_) if text.is_empty() => wrong("nothing"),
        Ok(nanos) => Ok(Duration::from_nanos(nanos)),
        Err(_) => wrong("too long a time"),
    }
}

/// A decimal number times a unit, without the errors of floats.
fn times(number: &str, nanos: u64) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + part.len() == 0 || whole.len() > 20 || part.contains('.') {
        return None;
    }
    let read = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<u128>().ok(),
    };
    let part = &part[..part.len().min(18)];
    let scale = 10_u128.pow(part.len() as u32);
    let nanos = u128::from(nanos);
    Some(read(whole)? * nanos + read(part)? * nanos / scale)
}

/// Writes a duration in Go's style.
pub fn text(duration: Duration) -> Text {
    Text(duration)
}

/// Shows a duration in Go's style.
pub struct Text(Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (unit, size) = match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            _ => ("s", 1_000_000_000),
        };
        if nanos < 1_000_000_000 {
            return write!(f, "{}{unit}", decimal(nanos, size));
        }
        let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write!(f, "{}s", decimal(rest, size))
    }
}

/// `nanos / size`, exactly, without zeros at the end.
fn decimal(nanos: u128, size: u128) -> String {
    let (whole, part) = (nanos / size, nanos % size);
    if part == 0 {
        return whole.to_string();
    }
    let width = size.ilog10() as usize;
    format!("{whole}.{part:0width$}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        let rows = [
            ("2m0s", 120_000_000_000, "2m0s"),
            ("0", 0, "0s"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("300ms", 300_000_000, "300ms"),
            ("1.000000001s", 1_000_000_001, "1.000000001s"),
            ("102.436µs", 102_436, "102.436µs"),
            ("102.436us", 102_436, "102.436µs"),
            ("7ns", 7, "7ns"),
            (".5s", 500_000_000, "500ms"),
            ("1h0m0.5s", 3_600_500_000_000, "1h0m0.5s"),
        ];
        for (read, nanos, written) in rows {
            let duration = parse(read).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(duration.as_nanos(), nanos, "{read}");
            assert_eq!(text(duration).to_string(), written);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        let long = format!("{}h", u64::MAX);
        for bad in ["", "5", "-2s", "s", "1.2.3s", ".s", "2x", "2 m", "1s-", "NaNs", "1e3s", &long]
        {
            let why = parse(bad).unwrap_err();
            assert!(why.contains("2m0s"), "{bad}: {why}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos: u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&text(duration).to_string()), Ok(duration)); // SPAN-1
        }

        #[test]
        fn no_text_does_harm(text in "[0-9.hmsuµn ]{0,30}") {
            let _ = parse(&text);
        }
    }
}
