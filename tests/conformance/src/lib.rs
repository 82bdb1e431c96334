//! Conformance: what a client of etcd can observe, held as transcripts under `cases/`, played to a real server.
//!
//! The same cases run against plinth and against a real etcd 3.5, so the cases themselves are proven. Where 3.5 differs from
//! the version that plinth follows, the case says so beside the step and names the row of `rows.txt` that differs.
//!
//! Requests and answers are protobuf text format, made into bytes through the proto files alone: no code of plinth that
//! encodes or decodes takes part.

mod case;
mod check;
mod parse;
mod process;
mod rows;
mod runner;
mod schema;
mod server;
mod template;

pub use case::{Action, Case, Deviation, Reply, Step, Want};
pub use parse::{ParseError, parse_cases};
pub use rows::{Row, parse_rows, uncovered_rows};
pub use runner::{Summary, load_cases, run};
pub use schema::Schema;
pub use server::{Dialect, Target};
