//! The text of `--help`, from the table.

use std::fmt::Write;

use super::{FLAGS, Kind, Status};

/// The help text: what is honoured in full, the rest by name.
#[must_use]
pub fn help() -> String {
    let mut out = String::from(
        "Usage: plinth [flags]\n\nA drop-in replacement for the etcd server. Each flag can also be given as a variable: ETCD_ and its\n\
         name in capitals with _ for -, for example ETCD_DATA_DIR. The command line counts before the environment.\n\n",
    );
    for flag in FLAGS.iter().filter(|flag| flag.status == Status::Honoured && flag.name != "h") {
        let value = if flag.kind == Kind::Bool { String::new() } else { format!(" '{}'", flag.default) };
        let _infallible = writeln!(out, "  --{}{value}\n      {}.", flag.name, flag.help);
    }
    section(&mut out, "Accepted, not honoured yet", |status| status == Status::Later);
    section(&mut out, "Accepted, without effect here", |status| matches!(status, Status::Ignored(_)));
    section(&mut out, "Known, but refused unless left at the default", |status| matches!(status, Status::Refused(_)));
    out
}

/// Width of the wrapped lists of names, in columns.
const COLUMNS: usize = 100;

fn section(out: &mut String, title: &str, wanted: impl Fn(Status) -> bool) {
    let _infallible = write!(out, "\n{title}:");
    let mut column = COLUMNS;
    for flag in FLAGS.iter().filter(|flag| wanted(flag.status)) {
        if column + flag.name.len() + 3 > COLUMNS {
            out.push_str("\n ");
            column = 1;
        }
        let _infallible = write!(out, " --{}", flag.name);
        column += flag.name.len() + 3;
    }
    out.push('\n');
}
