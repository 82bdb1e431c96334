//! Both servers in turns: requests per second, latencies, and the server's cost per request.

use super::{Figures, Part, aim::Aim};
use crate::{
    failure::Failure,
    load::{Clients, Op},
    results,
    server::Kind,
    versus::{CLIENTS, Comparison, compare},
};

/// plinth's CPU per request in parts of etcd's, over few connections with many streams.
const PUT_COST_MAX: f64 = 0.25;
const RANGE_COST_MAX: f64 = 0.2;
/// With one stream per connection the sockets cost most, and they cost both the same.
const ONE_STREAM_COST_MAX: f64 = 0.5;

pub(super) fn run(figures: &mut Figures, op: Op) -> Result<Part, Failure> {
    figures.filled()?;
    let filled = figures.filled.as_ref().expect("it was just filled");
    let (lab, etcd) = (&figures.lab, figures.lab.etcd()?);
    let sides = [(&lab.plinth, filled.of(Kind::Plinth)), (&etcd, filled.of(Kind::Etcd))];
    let (mut comparisons, mut aims) = (Vec::new(), Vec::new());
    for clients in CLIENTS {
        let comparison = compare(lab, sides, op, clients)?;
        let ratio = comparison.cpu_ratio().unwrap_or(f64::NAN);
        let what = format!("server CPU per {}, {clients}, in parts of etcd's", op.name());
        aims.push(Aim::at_most(what, cost_max(op, clients), ratio));
        comparisons.push(comparison);
    }
    let text = comparisons.iter().map(Comparison::to_text).collect();
    Ok(Part { text, json: results::encode(&comparisons), aims })
}

fn cost_max(op: Op, clients: Clients) -> f64 {
    match op {
        _ if clients.streams == 1 => ONE_STREAM_COST_MAX,
        Op::Put => PUT_COST_MAX,
        _ => RANGE_COST_MAX,
    }
}
