//! The `grpc-timeout` header: 1 to 8 digits and a unit.

use std::{fmt, time::Duration};

/// A `grpc-timeout` that can't be read. Its text is grpc-go's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TimeoutError {
    /// No room for a number and a unit.
    TooShort(String),
    /// More than 8 digits.
    TooLong(String),
    /// The last character is no unit.
    UnknownUnit(String),
    /// What precedes the unit is not a number.
    NotANumber(String),
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(text) => write!(f, "transport: timeout string is too short: {text:?}"),
            Self::TooLong(text) => write!(f, "transport: timeout string is too long: {text:?}"),
            Self::UnknownUnit(text) => write!(f, "transport: timeout unit is not recognized: {text:?}"),
            Self::NotANumber(digits) => write!(f, "strconv.ParseUint: parsing {digits:?}: invalid syntax"),
        }
    }
}

impl std::error::Error for TimeoutError {}

const DIGITS_MAX: usize = 8;

/// How long the caller waits. Never fails for what gRPC allows; hours beyond a duration's range saturate by construction.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let text = || String::from_utf8_lossy(value).into_owned();
    let (unit, digits) = match value.split_last() {
        Some((unit, digits)) if !digits.is_empty() => (*unit, digits),
        _ => return Err(TimeoutError::TooShort(text())),
    };
    if digits.len() > DIGITS_MAX {
        return Err(TimeoutError::TooLong(text()));
    }
    let unit = match unit {
        b'H' => Duration::from_secs(3600),
        b'M' => Duration::from_secs(60),
        b'S' => Duration::from_secs(1),
        b'm' => Duration::from_millis(1),
        b'u' => Duration::from_micros(1),
        b'n' => Duration::from_nanos(1),
        _ => return Err(TimeoutError::UnknownUnit(text())),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(TimeoutError::NotANumber(String::from_utf8_lossy(digits).into_owned()));
    }
    // 8 digits fit 32 bits, and 10^8 hours fit a Duration.
    Ok(unit * digits.iter().fold(0, |count, digit| count * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, want) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("00000003S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Ok(want), "{text}");
        }
    }

    #[test]
    fn malformed_timeouts_give_the_texts_of_grpc_go() {
        for (text, want) in [
            ("", "transport: timeout string is too short: \"\""),
            ("S", "transport: timeout string is too short: \"S\""),
            ("123456789S", "transport: timeout string is too long: \"123456789S\""),
            ("1s", "transport: timeout unit is not recognized: \"1s\""),
            ("-1S", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()).map_err(|e| e.to_string()), Err(want.to_owned()));
        }
    }
}
