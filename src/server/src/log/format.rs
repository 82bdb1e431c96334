//! The three forms of a log line. Pure: time comes in as an argument.

use std::{fmt::Write, time::Duration};

use plinth_base::log::{Level, Record, Value};

use super::Form;
use crate::go_duration;

/// Appends one line, its newline included, to `out`.
pub fn line(form: Form, unix_time: Duration, record: &Record<'_>, out: &mut String) {
    match form {
        Form::Json => json(unix_time, record, out),
        Form::Console => console(unix_time, record, out),
        Form::Plain => plain(record, out),
    }
    out.push('\n');
}

fn json(unix_time: Duration, record: &Record<'_>, out: &mut String) {
    out.push_str("{\"level\":\"");
    out.push_str(record.level.name());
    out.push_str("\",\"ts\":\"");
    timestamp(unix_time, out);
    out.push_str("\",\"caller\":\"");
    caller(record, out);
    out.push_str("\",\"msg\":");
    json_string(record.msg, out);
    for (key, value) in record.fields {
        out.push(',');
        json_string(key, out);
        out.push(':');
        json_value(*value, out);
    }
    out.push('}');
}

fn console(unix_time: Duration, record: &Record<'_>, out: &mut String) {
    timestamp(unix_time, out);
    put(out, format_args!("\t{}\t", record.level.name()));
    caller(record, out);
    put(out, format_args!("\t{}", record.msg));
    for (index, (key, value)) in record.fields.iter().enumerate() {
        out.push_str(if index == 0 { "\t{" } else { ", " });
        json_string(key, out);
        out.push_str(": ");
        json_value(*value, out);
    }
    if !record.fields.is_empty() {
        out.push('}');
    }
}

fn plain(record: &Record<'_>, out: &mut String) {
    out.push_str(match record.level {
        Level::Debug => "debug: ",
        Level::Info => "",
        Level::Warn => "warning: ",
        Level::Error => "error: ",
        Level::Fatal => "fatal: ",
    });
    out.push_str(record.msg);
    for (key, value) in record.fields {
        put(out, format_args!(" {key}="));
        json_value(*value, out);
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String can't fail");
}

fn json_value(value: Value<'_>, out: &mut String) {
    match value {
        Value::Str(text) => json_string(text, out),
        Value::Strs(texts) => {
            for (index, text) in texts.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                json_string(text, out);
            }
            out.push_str(if texts.is_empty() { "[]" } else { "]" });
        }
        Value::U64(number) => put(out, format_args!("{number}")),
        Value::I64(number) => put(out, format_args!("{number}")),
        // JSON has no word for these; zap writes them as text.
        Value::F64(number) if !number.is_finite() => put(out, format_args!("\"{number}\"")),
        Value::F64(number) => put(out, format_args!("{number}")),
        Value::Bool(truth) => put(out, format_args!("{truth}")),
        Value::Duration(duration) => json_string(&go_duration::format(duration), out),
        Value::Display(text) => json_string(&text.to_string(), out),
    }
}

/// Appends `text` in quotes, escaped as JSON wants it.
pub fn json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// `dir/file.rs:LINE`, as zap's short callers: the last two parts of the path that say something.
fn caller(record: &Record<'_>, out: &mut String) {
    let mut parts = record.file.rsplit('/').filter(|part| *part != "src");
    let file = parts.next().unwrap_or("?");
    if let Some(folder) = parts.next() {
        put(out, format_args!("{folder}/"));
    }
    put(out, format_args!("{file}:{}", record.line));
}

/// `2026-11-21T01:54:08.123456Z`.
fn timestamp(unix_time: Duration, out: &mut String) {
    let seconds = unix_time.as_secs();
    let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    put(out, format_args!("{year:04}-{month:02}-{day:02}T"));
    put(out, format_args!("{:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60));
    put(out, format_args!(".{:06}Z", unix_time.subsec_micros()));
}

const SECONDS_PER_DAY: u64 = 86_400;

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`, for days that are not negative).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March, so that the leap day is the last day of the year.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(form: Form, fields: &[(&str, Value<'_>)]) -> String {
        let record =
            Record { level: Level::Warn, file: "src/node/src/shard.rs", line: 7, msg: "slow \"disk\"", fields };
        let mut out = String::new();
        line(form, Duration::new(1_795_226_048, 123_456_789), &record, &mut out);
        out
    }

    #[test]
    fn a_json_line_has_the_shape_of_etcd() {
        let error = std::io::Error::other("tab\there");
        let texts = ["a".to_owned(), "b".to_owned()];
        let line = rendered(
            Form::Json,
            &[
                ("took", Value::Duration(Duration::from_millis(1500))),
                ("size", Value::from(3_usize)),
                ("delta", Value::from(-4_i64)),
                ("ok", Value::from(true)),
                ("urls", Value::Strs(&texts)),
                ("error", Value::display(&error)),
                ("ratio", Value::from(f64::NAN)),
            ],
        );
        assert_eq!(
            line,
            "{\"level\":\"warn\",\"ts\":\"2026-11-21T01:54:08.123456Z\",\"caller\":\"node/shard.rs:7\",\"msg\":\"slow \\\"disk\\\"\",\
             \"took\":\"1.5s\",\"size\":3,\"delta\":-4,\"ok\":true,\"urls\":[\"a\",\"b\"],\"error\":\"tab\\there\",\"ratio\":\"NaN\"}\n"
        );
        serde_json::from_str::<serde_json::Value>(&line).expect("it is JSON");
    }

    #[test]
    fn the_other_forms_are_readable() {
        let fields = [("size", Value::from(3_usize)), ("name", Value::from("x"))];
        assert_eq!(
            rendered(Form::Console, &fields),
            "2026-11-21T01:54:08.123456Z\twarn\tnode/shard.rs:7\tslow \"disk\"\t{\"size\": 3, \"name\": \"x\"}\n"
        );
        assert_eq!(rendered(Form::Plain, &fields), "warning: slow \"disk\" size=3 name=\"x\"\n");
    }

    #[test]
    fn control_characters_cannot_break_a_line() {
        let mut out = String::new();
        json_string("a\u{1}\u{7f}\n\u{2028}b", &mut out);
        assert_eq!(serde_json::from_str::<String>(&out).expect("it is JSON"), "a\u{1}\u{7f}\n\u{2028}b");
        assert!(!out.contains('\n'));
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        let expected = [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_818, (2026, 12, 31)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, date) in expected {
            assert_eq!(civil_date(days), date, "{days}");
        }
    }
}
