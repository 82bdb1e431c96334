//! How many keys there are: one range over all of them that counts only.

use super::{
    Figures, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::{Filled, Lab},
    load::{self, Clients, Op, Outcome, Plan, Shape},
    server::{Kind, Program},
};

const ONE: Clients = Clients { connections: 1, streams: 1 };
const COUNT: Op = Op::List { count_only: true };
/// In the server, which neither server tells: the client's time has it and more, so what holds there holds in the server.
const US_MAX: f64 = 1000.0;
const P99: &str = "p99 at the client, µs";

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled_large_pair()?;
    let (lab, shape) = (&figures.lab, figures.large);
    let large = figures.filled_large_pair.as_ref().expect("it was just filled");
    let table = in_turns(lab, "count", |program| measure(lab, program, large, shape))?;
    let text = format!("{} keys of {} bytes:\n\n{}", shape.keys, shape.value_bytes, table.to_text());
    let what = format!("count of {} keys, p99 at the client, µs", shape.keys);
    let aims = vec![Aim::at_most(what, US_MAX, table.median(Kind::Plinth, P99))];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, large: &Filled, shape: Shape) -> Result<Sheet, Failure> {
    let outcome = lab.undisturbed(
        |outcome: &Outcome| outcome.disturbance,
        || {
            let server = lab.start_in_place(program, large.of(program.kind))?;
            let outcome = load::run(&Plan { shape, ..lab.plan(&server, COUNT, ONE) })?;
            server.stop()?;
            outcome.expect_no_errors()?;
            Ok(outcome)
        },
    )?;
    let mut sheet = Sheet::default();
    sheet.note(outcome.disturbance);
    let us = |quantile| outcome.latencies.quantile_us(quantile).unwrap_or(f64::NAN);
    sheet.add("mean at the client, µs", 0, 1e6 / outcome.per_second());
    sheet.add("p50 at the client, µs", 0, us(0.5));
    sheet.add(P99, 0, us(0.99));
    sheet.add("server CPU, µs", 1, outcome.server_us_per_request().unwrap_or(f64::NAN));
    Ok(sheet)
}
