//! Spans of time in Go's notation (`1h30m`, `1.5s`, `300ms`): flags take it, log lines show it.

use std::{fmt::Write, time::Duration};

/// Units by name, in nanoseconds. Both ways to write a micro sign are Go's.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NS_PER_S),
    ("m", 60 * NS_PER_S),
    ("h", 3600 * NS_PER_S),
];
const NS_PER_S: u64 = 1_000_000_000;

/// Reads a span of time; none if it isn't one, is negative, or is longer than Go could hold (292 years).
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total_ns = 0_u64;
    while !rest.is_empty() {
        let number_bytes = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_bytes);
        let unit_bytes = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_bytes);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ns = total_ns.checked_add(part_ns(number, *unit_ns)?)?;
        rest = after;
    }
    i64::try_from(total_ns).is_ok().then(|| Duration::from_nanos(total_ns))
}

/// `number` (digits, perhaps a dot and digits) times a unit, in nanoseconds.
fn part_ns(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit_ns)?;
    let mut place_ns = unit_ns;
    for digit in fraction.bytes() {
        // What is below a nanosecond is dropped, as Go does.
        total = total.checked_add(u64::from(digit - b'0') * place_ns / 10)?;
        place_ns /= 10;
    }
    Some(total)
}

/// Writes a span of time as Go's `Duration.String` does.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < u128::from(NS_PER_S) {
        let (unit, unit_ns) = match ns {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return with_fraction(ns, unit_ns) + unit;
    }
    let mut out = String::new();
    let minute_ns = u128::from(60 * NS_PER_S);
    let minutes = ns / minute_ns;
    if minutes >= 60 {
        let _infallible = write!(out, "{}h", minutes / 60);
    }
    if minutes > 0 {
        let _infallible = write!(out, "{}m", minutes % 60);
    }
    out + &with_fraction(ns % minute_ns, u128::from(NS_PER_S)) + "s"
}

/// `ns / unit_ns` with as many decimals as it needs.
fn with_fraction(ns: u128, unit_ns: u128) -> String {
    let decimals = unit_ns.ilog10() as usize;
    let (whole, fraction) = (ns / unit_ns, ns % unit_ns);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{}", format!("{fraction:0decimals$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_is_read() {
        let expected = [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+5µs", 5_000),
            ("10us", 10_000),
            ("1h0m", 3_600_000_000_000),
        ];
        for (text, ns) in expected {
            assert_eq!(parse(text), Some(Duration::from_nanos(ns)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "5", "s", "-5s", "5x", ".s", "1..5s", "5 s", "9999999999h", "300y", "3000000h", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_go_shows_it() {
        let expected = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (60_000_000_000, "1m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (245_001_000_000, "4m5.001s"),
        ];
        for (ns, text) in expected {
            assert_eq!(format(Duration::from_nanos(ns)), text);
            assert_eq!(parse(text), Some(Duration::from_nanos(ns)), "{text} reads back");
        }
    }
}
