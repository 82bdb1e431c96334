//! The load itself: what it costs, and whether it sees a server that stands still.

use std::{
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Figures, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::{Filled, Lab},
    load::{self, Clients, Op, Outcome, Pace, Plan},
    server::{Kind, Program, Server},
};

const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
const OPS: [Op; 3] = [Op::Put, Op::Range { serializable: false }, Op::Empty];
const COST_US_MAX: f64 = 5.0;
const STOP: Duration = Duration::from_millis(500);
/// How often it is asked meanwhile, and for how long in all: a twentieth of the requests is due while it stands still, so a fifth of
/// these waits for longer than p99 tells.
const STOP_RATE: f64 = 1000.0;
const STOP_MEASURED: Duration = Duration::from_secs(10);
const STOP_P99_MS_MIN: f64 = 350.0;
const P99_STOPPED: &str = "put p99 of an open loop, stopped for 500 ms, ms";

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled()?;
    let (lab, filled) = (&figures.lab, figures.filled.as_ref().expect("it was just filled"));
    let table = in_turns(lab, "load", |program| measure(lab, program, filled))?;
    let mut aims = Vec::new();
    for kind in [Kind::Plinth, Kind::Etcd] {
        for op in OPS {
            let value = table.median(kind, &cost(op));
            aims.push(Aim::at_most(format!("{}, {CLIENTS}, at {kind:?}", cost(op)), COST_US_MAX, value));
        }
        aims.push(Aim::at_least(format!("{P99_STOPPED}, {kind:?}"), STOP_P99_MS_MIN, table.median(kind, P99_STOPPED)));
    }
    let text = format!("{CLIENTS}; the open loop begins {STOP_RATE} puts a second.\n\n{}", table.to_text());
    Ok(Part { text, json: table.to_json(), aims })
}

fn cost(op: Op) -> String {
    format!("load's CPU per {}, µs", op.name())
}

fn measure(lab: &Lab, program: &Program, filled: &Filled) -> Result<Sheet, Failure> {
    let mut sheet = Sheet::default();
    for op in OPS {
        let outcome = lab.turn(program, filled.of(program.kind), op, CLIENTS)?;
        sheet.note(outcome.disturbance);
        sheet.add(cost(op), 2, outcome.us_per_request(outcome.own_cpu));
    }
    for (name, stop) in [("put p99 of an open loop, ms", Duration::ZERO), (P99_STOPPED, STOP)] {
        let outcome = lab.undisturbed(
            |outcome: &Outcome| outcome.disturbance,
            || {
                let server = lab.start_on_copy(program, filled.of(program.kind), &[lab.server_core])?;
                let outcome = open_loop(lab, &server, stop)?;
                server.stop()?;
                outcome.expect_no_errors()?;
                Ok(outcome)
            },
        )?;
        sheet.note(outcome.disturbance);
        sheet.add(name, 1, outcome.latencies.quantile_us(0.99).unwrap_or(f64::NAN) / 1e3);
    }
    Ok(sheet)
}

/// Puts at a rate; the server stands still for `stop` in the middle of the measured time.
fn open_loop(lab: &Lab, server: &Server, stop: Duration) -> Result<Outcome, Failure> {
    let plan = lab.plan(server, Op::Put, CLIENTS);
    let plan = Plan { pace: Pace::Open { rate: STOP_RATE }, measured: STOP_MEASURED, ..plan };
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).expect("a server has a process id");
    let signal = |signal| {
        let sent = kill_process(pid, signal);
        sent.map_err(|error| Failure::Trouble(format!("stopping the server: {error}")))
    };
    thread::scope(|scope| {
        let middle = Instant::now() + plan.warmup + plan.measured / 2;
        let stopping = scope.spawn(move || {
            if stop.is_zero() {
                return Ok(());
            }
            thread::sleep(middle.saturating_duration_since(Instant::now()));
            signal(Signal::STOP)?;
            thread::sleep(stop);
            signal(Signal::CONT)
        });
        let outcome = load::run(&plan);
        stopping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        outcome
    })
}
