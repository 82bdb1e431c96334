//! What watchers cost those who put, and how late events come.

use super::{
    Figures, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    histogram::Latencies,
    lab::{Filled, Lab},
    load::{self, Clients, Op, Outcome, Pace, Plan, Watchers},
    server::{Kind, Program},
};

const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
/// Puts when it is quiet: one after the other, of watched keys alone.
const QUIET: Clients = Clients { connections: 1, streams: 1 };
const QUIET_RATE: f64 = 500.0;
const LOST_PERCENT_MAX: f64 = 10.0;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled()?;
    let (lab, filled) = (&figures.lab, figures.filled.as_ref().expect("it was just filled"));
    let keys = lab.method.shape.keys;
    // About each hundredth and each tenth put has an event.
    let (some, many) = (keys / 100, keys / 10);
    let lost = format!("rate lost with {many} watchers, %");
    let table = in_turns(lab, "watch", |program| measure(lab, program, filled, [0, some, many], &lost))?;
    let text = format!(
        "Puts {CLIENTS}; quiet: {QUIET}, {QUIET_RATE} a second, each with an event. Every watcher saw every put of its key once.\n\n{}",
        table.to_text()
    );
    let aims = vec![Aim::at_most(format!("put {lost}"), LOST_PERCENT_MAX, table.median(Kind::Plinth, &lost))];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, filled: &Filled, counts: [u64; 3], lost: &str) -> Result<Sheet, Failure> {
    let mut sheet = Sheet::default();
    let mut rates = Vec::new();
    for count in counts {
        let watchers = Watchers { count, puts_hit_always: false, all_keys: false };
        let outcome = watched(lab, program, filled, watchers, |plan| plan)?;
        let with = format!(", {count} watchers");
        sheet.add_puts(&with, &outcome);
        sheet.add(format!("server CPU per put{with}, µs"), 2, outcome.server_us_per_request().unwrap_or(f64::NAN));
        let load = 100.0 * outcome.own_cpu.as_secs_f64() / outcome.elapsed.as_secs_f64();
        sheet.add(format!("load, % of its core{with}"), 0, load);
        if count > 0 {
            add_events(&mut sheet, &with, &outcome.events, outcome.elapsed.as_secs_f64());
        }
        rates.push(outcome.per_second());
    }
    let rate = |at: Option<&f64>| at.copied().unwrap_or(f64::NAN);
    sheet.add(lost, 1, 100.0 * (1.0 - rate(rates.last()) / rate(rates.first())));
    let watchers = Watchers { count: counts[2], puts_hit_always: true, all_keys: false };
    let quiet = |plan| Plan { clients: QUIET, pace: Pace::Open { rate: QUIET_RATE }, ..plan };
    let outcome = watched(lab, program, filled, watchers, quiet)?;
    sheet.note(outcome.disturbance);
    add_events(&mut sheet, ", quiet", &outcome.events, outcome.elapsed.as_secs_f64());
    Ok(sheet)
}

fn add_events(sheet: &mut Sheet, how: &str, events: &Latencies, seconds: f64) {
    let us = |quantile| events.quantile_us(quantile).unwrap_or(f64::NAN);
    sheet.add(format!("events per second{how}"), 0, events.count() as f64 / seconds);
    sheet.add(format!("event p50{how}, µs"), 0, us(0.5));
    sheet.add(format!("event p99{how}, µs"), 0, us(0.99));
}

/// One run on a server of its own, again while it is disturbed.
fn watched(
    lab: &Lab,
    program: &Program,
    filled: &Filled,
    watchers: Watchers,
    changed: impl Fn(Plan) -> Plan,
) -> Result<Outcome, Failure> {
    let disturbance = |outcome: &Outcome| outcome.disturbance;
    lab.undisturbed(disturbance, || {
        let server = lab.start_on_copy(program, filled.of(program.kind), &[lab.server_core])?;
        let plan = Plan { watchers: Some(watchers), ..changed(lab.plan(&server, Op::Put, CLIENTS)) };
        let outcome = load::run(&plan)?;
        server.stop()?;
        Ok(outcome)
    })
}
