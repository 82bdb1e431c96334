//! How many keys there are: one range over all of them that counts only.

use super::{
    Figures, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Clients, Op, Outcome, Plan, Shape},
    metrics::Metrics,
    server::{Kind, Program},
    versus::Filled,
};

const ONE: Clients = Clients { connections: 1, streams: 1 };
const COUNT: Op = Op::List { count_only: true };
const SERVER_US_MAX: f64 = 1000.0;
/// Seconds that ranges took in the server, and how many there were. (The one that finds out whether the server is ready is before.)
const RANGES: &str = "etcd_server_range_duration_seconds";
const IN_SERVER: &str = "in the server (mean of its own histogram), µs";

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled_large_pair()?;
    let (lab, shape) = (&figures.lab, figures.large);
    let large = figures.filled_large_pair.as_ref().expect("it was just filled");
    let table = in_turns(lab, "count", |program| measure(lab, program, large, shape))?;
    let text = format!("{} keys of {} bytes:\n\n{}", shape.keys, shape.value_bytes, table.to_text());
    let what = format!("count of {} keys in the server, µs", shape.keys);
    let aims = vec![Aim::at_most(what, SERVER_US_MAX, table.median(Kind::Plinth, IN_SERVER))];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, large: &Filled, shape: Shape) -> Result<Sheet, Failure> {
    let disturbance = |(outcome, _): &(Outcome, f64)| outcome.disturbance;
    let (outcome, in_server) = lab.undisturbed(disturbance, || {
        let server = lab.start_in_place(program, large.of(program.kind))?;
        let plan = Plan { shape, ..lab.plan(&server, COUNT, ONE) };
        let before = Metrics(server.metrics()?);
        let outcome = load::run(&plan)?;
        let after = Metrics(server.metrics()?);
        server.stop()?;
        outcome.expect_no_errors()?;
        let since = |what| after.since(&before, &format!("{RANGES}_{what}"));
        Ok((outcome, 1e6 * since("sum") / since("count")))
    })?;
    let mut sheet = Sheet::default();
    sheet.note(outcome.disturbance);
    let us = |quantile| outcome.latencies.quantile_us(quantile).unwrap_or(f64::NAN);
    sheet.add("mean at the client, µs", 0, 1e6 / outcome.per_second());
    sheet.add("p50 at the client, µs", 0, us(0.5));
    sheet.add("p99 at the client, µs", 0, us(0.99));
    sheet.add(IN_SERVER, 1, in_server);
    sheet.add("server CPU, µs", 1, outcome.server_us_per_request().unwrap_or(f64::NAN));
    Ok(sheet)
}
