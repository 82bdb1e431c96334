//! One client's put, against what it can't do without: a call, and a durable write.
//!
//! The server has an executor on each core, so that connections on and off the shard's executor can be told apart. The load shares a core with
//! the executor that has no shard.

use serde_json::json;

use super::{Figures, Part, aim::Aim};
use crate::{
    disk_write,
    failure::Failure,
    lab::Lab,
    load::{self, Clients, Op, Outcome, Plan},
    server::Server,
    stats::median,
};

/// A put's median in parts of the medians of an empty call and a write together.
const PUT_MAX: f64 = 1.4;
const ONE: Clients = Clients { connections: 1, streams: 1 };
/// By number: the shard is on the first one.
const EXECUTORS: [&str; 2] = ["on the shard's executor", "off the shard's executor"];

/// The medians of one turn, in µs: the write, and for each executor the empty call and the put.
struct Turn {
    write: f64,
    calls: [(f64, f64); 2],
    /// How many of the four remained disturbed.
    disturbed: usize,
}

impl Turn {
    /// The put of an executor in parts of what it can't do without.
    fn ratio(&self, executor: usize) -> f64 {
        let (empty, put) = self.calls[executor];
        put / (empty + self.write)
    }
}

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let filled = lab.fill("single", &lab.plinth, lab.method.shape)?;
    let server = lab.start_on_copy(&lab.plinth, &filled, &[lab.server_core, lab.load_core])?;
    let mut turns = Vec::new();
    for number in 0..lab.method.turns {
        eprintln!("single: turn {} of {}", number + 1, lab.method.turns);
        turns.push(measure_turn(lab, &server)?);
    }
    server.stop()?;
    let mut text = "| one client | empty call p50, µs | 4 KiB write p50, µs | put p50, µs | put / (call + write) |\n|---|---|---|---|---|\n".to_owned();
    let mut aims = Vec::new();
    for (executor, place) in EXECUTORS.iter().enumerate() {
        let of =
            |figure: &dyn Fn(&Turn) -> f64| median(&turns.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN);
        let (empty, put) = (of(&|turn| turn.calls[executor].0), of(&|turn| turn.calls[executor].1));
        let ratio = of(&|turn| turn.ratio(executor));
        let write = of(&|turn| turn.write);
        text += &format!("| {place} | {empty:.0} | {write:.0} | {put:.0} | {ratio:.2} |\n");
        aims.push(Aim::at_most(format!("one client's put p50, {place}, in parts of call + write"), PUT_MAX, ratio));
    }
    let disturbed: usize = turns.iter().map(|turn| turn.disturbed).sum();
    if disturbed > 0 {
        text += &format!("\nDISTURBED: {disturbed} of {} measurements\n", 2 * EXECUTORS.len() * turns.len());
    }
    let json = |turn: &Turn| json!({ "write_p50_us": turn.write, "empty_and_put_p50_us": turn.calls });
    let json = turns.iter().map(json).collect();
    Ok(Part { text, json, aims })
}

fn measure_turn(lab: &Lab, server: &Server) -> Result<Turn, Failure> {
    let path = lab.path("disk-write")?;
    let write = disk_write::measure(&path, lab.server_core, lab.method.measured)?;
    let mut turn = Turn { write: write.quantile_us(0.5).unwrap_or(f64::NAN), calls: [(0.0, 0.0); 2], disturbed: 0 };
    for executor in 0..EXECUTORS.len() {
        let mut p50 = |op| {
            let outcome = call(lab, server, op, executor)?;
            turn.disturbed += usize::from(outcome.disturbance.is_too_much());
            Ok::<f64, Failure>(outcome.latencies.quantile_us(0.5).unwrap_or(f64::NAN))
        };
        turn.calls[executor] = (p50(Op::Empty)?, p50(Op::Put)?);
    }
    Ok(turn)
}

/// One measurement, again while it is disturbed and may be repeated.
fn call(lab: &Lab, server: &Server, op: Op, executor: usize) -> Result<Outcome, Failure> {
    let plan = Plan { executor: Some(executor), ..lab.plan(server, op, ONE) };
    let run = || {
        let outcome = load::run(&plan)?;
        outcome.expect_no_errors()?;
        Ok(outcome)
    };
    lab.undisturbed(|outcome: &Outcome| outcome.disturbance, run)
}
