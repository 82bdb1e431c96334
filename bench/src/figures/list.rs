//! One range over all keys: how long it takes, and what the server holds for it.

use bytes::Bytes;
use plinth_rpc::etcdserverpb::RangeRequest;
use serde_json::json;

use super::{
    Figures, LIST_VALUE_BYTES, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::{Filled, Lab},
    load::{self, Clients, Op, Outcome, Plan, Shape},
    memory::growth_during,
    server::{Kind, Program},
};

const ONE: Clients = Clients { connections: 1, streams: 1 };
const LIST: Op = Op::List { count_only: false };
/// In parts of etcd's.
const TIME_MAX: f64 = 0.2;
const GROWTH_MIB_MAX: f64 = 16.0;
/// While one range reads the whole large database.
const LARGE_GROWTH_MIB_MAX: f64 = 32.0;
const MS: &str = "a list takes, ms";
const GROWTH: &str = "memory growth, MiB";
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let shape = Shape { value_bytes: LIST_VALUE_BYTES, ..figures.lab.method.shape };
    let filled = Filled::in_rounds(&figures.lab, "-list", shape, 1)?;
    figures.filled_large_pair()?;
    let lab = &figures.lab;
    let table = in_turns(lab, "list", |program| measure(lab, program, &filled, shape))?;
    let large = figures.filled_large_pair.as_ref().expect("it was just filled");
    eprintln!("list: all of the large database");
    let Large { mib, ms, growth, growth_again } = list_large(lab, large, figures.large)?;
    let text = format!(
        "{} keys of {} bytes, one range over all of them, again and again:\n\n{}\n\
         {} keys of {} bytes, one range over all of them, the first one after the start: {mib:.0} MiB in {ms:.0} ms, \
         memory growth of plinth {growth:.1} MiB, and {growth_again:.1} MiB by a second one\n",
        shape.keys,
        shape.value_bytes,
        table.to_text(),
        figures.large.keys,
        figures.large.value_bytes
    );
    let aims = vec![
        Aim::at_most("time of a list in parts of etcd's", TIME_MAX, table.ratio(MS)),
        Aim::at_most("list: memory growth of the server, MiB", GROWTH_MIB_MAX, table.median(Kind::Plinth, GROWTH)),
        Aim::at_most("list of the large database: memory growth of the server, MiB", LARGE_GROWTH_MIB_MAX, growth),
    ];
    let json =
        json!({ "turns": table.to_json(), "large": { "mib": mib, "ms": ms, "growth_mib": [growth, growth_again] } });
    Ok(Part { text, json, aims })
}

fn measure(lab: &Lab, program: &Program, filled: &Filled, shape: Shape) -> Result<Sheet, Failure> {
    let disturbance = |(outcome, _): &(Outcome, f64)| outcome.disturbance;
    let (outcome, growth) = lab.undisturbed(disturbance, || {
        let server = lab.start_in_place(program, filled.of(program.kind))?;
        let plan = Plan { shape, ..lab.plan(&server, LIST, ONE) };
        let measured = growth_during(server.pid(), || load::run(&plan))?;
        server.stop()?;
        measured.0.expect_no_errors()?;
        Ok(measured)
    })?;
    let lists = outcome.requests().max(1);
    let bytes = outcome.answer_bytes / lists;
    expect_all(bytes, shape)?;
    let mut sheet = Sheet::default();
    sheet.note(outcome.disturbance);
    // One at a time: the mean needs fewer of them than a median.
    sheet.add(MS, 1, 1e3 / outcome.per_second());
    let cpu = outcome.server_us_per_request().unwrap_or(f64::NAN);
    sheet.add("server CPU of a list, ms", 1, cpu / 1e3);
    sheet.add("load's CPU of a list, ms", 1, outcome.us_per_request(outcome.own_cpu) / 1e3);
    sheet.add("answer, MiB", 1, bytes as f64 / MIB);
    sheet.add(GROWTH, 1, growth);
    Ok(sheet)
}

/// A range over the large database.
struct Large {
    /// Length of the answer.
    mib: f64,
    /// How long the first one took.
    ms: f64,
    /// Memory growth by it, in MiB.
    growth: f64,
    /// By a second one, over that.
    growth_again: f64,
}

fn list_large(lab: &Lab, large: &Filled, shape: Shape) -> Result<Large, Failure> {
    let server = lab.start_in_place(&lab.plinth, large.of(Kind::Plinth))?;
    let all = Bytes::from_static(&[0]);
    let request = RangeRequest { key: all.clone(), range_end: all, ..Default::default() };
    let list = || load::call_timed(server.endpoint(), lab.load_core, "/etcdserverpb.KV/Range", &request);
    let ((bytes, took), growth) = growth_during(server.pid(), list)?;
    let (_, growth_again) = growth_during(server.pid(), list)?;
    server.stop()?;
    expect_all(bytes, shape)?;
    Ok(Large { mib: bytes as f64 / MIB, ms: took.as_secs_f64() * 1e3, growth, growth_again })
}

/// A short answer would be a fast one.
fn expect_all(answer_bytes: u64, shape: Shape) -> Result<(), Failure> {
    let least = shape.keys * (shape.key_bytes + shape.value_bytes) as u64;
    if answer_bytes >= least {
        return Ok(());
    }
    Err(Failure::Trouble(format!("a list has {answer_bytes} bytes, and keys and values have {least}")))
}
