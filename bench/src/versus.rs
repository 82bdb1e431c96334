//! Two servers in turns on the same disk: A B A B ...

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    args::Args,
    failure::Failure,
    lab::{self, Lab},
    load::{Clients, Op, Outcome, Shape, to_json},
    server::Kind,
    stats::{Ratio, median},
};

const MIB: f64 = (1 << 20) as f64;

/// The client counts of every figure here: one client, and 512 in both shapes.
pub const CLIENTS: [Clients; 3] = [
    Clients { connections: 1, streams: 1 },
    Clients { connections: 8, streams: 64 },
    Clients { connections: 512, streams: 1 },
];

/// What the turns of one scenario gave.
#[derive(Debug)]
pub struct Comparison {
    /// What was asked.
    pub op: Op,
    /// By how many.
    pub clients: Clients,
    /// plinth's turns.
    pub plinth: Vec<Outcome>,
    /// etcd's, as many.
    pub etcd: Vec<Outcome>,
}

/// A figure that each turn gives.
type Figure = fn(&Outcome) -> Option<f64>;

/// Every figure, its name in tables, and the digits that it is told with.
const FIGURES: [(&str, usize, Figure); 8] = [
    ("requests per second", 0, |outcome| Some(outcome.per_second())),
    ("p50, µs", 0, |outcome| outcome.latencies.quantile_us(0.5)),
    ("p99, µs", 0, |outcome| outcome.latencies.quantile_us(0.99)),
    ("server CPU per request, µs", 2, Outcome::server_us_per_request),
    ("memory, MiB", 1, |outcome| Some(outcome.server?.memory_bytes as f64 / MIB)),
    ("context switches per request", 3, |outcome| per_request(outcome, outcome.server?.switches)),
    ("flushes per request", 4, |outcome| per_request(outcome, outcome.server?.disk?.flushes)),
    ("bytes written per request", 0, |outcome| per_request(outcome, outcome.server?.disk?.written_bytes)),
];

fn per_request(outcome: &Outcome, count: u64) -> Option<f64> {
    Some(count as f64 / outcome.requests().max(1) as f64)
}

/// Runs all turns of one scenario.
pub fn compare(lab: &Lab, filled: &Filled, op: Op, clients: Clients) -> Result<Comparison, Failure> {
    let mut comparison = Comparison { op, clients, plinth: Vec::new(), etcd: Vec::new() };
    for turn in 0..lab.method.turns {
        eprintln!("{}, {clients}: turn {} of {}", op.name(), turn + 1, lab.method.turns);
        comparison.plinth.push(lab.turn(&lab.plinth, &filled.plinth, op, clients)?);
        comparison.etcd.push(lab.turn(&lab.etcd()?, &filled.etcd, op, clients)?);
    }
    Ok(comparison)
}

/// The filled directories of both.
#[derive(Debug)]
pub struct Filled {
    plinth: PathBuf,
    etcd: PathBuf,
}

impl Filled {
    /// Fills both.
    pub fn new(lab: &Lab) -> Result<Self, Failure> {
        Self::in_rounds(lab, "", lab.method.shape, 1)
    }

    /// Fills both with the keys of `shape`, each written `rounds` times. Directories with another `name` stay.
    pub fn in_rounds(lab: &Lab, name: &str, shape: Shape, rounds: u64) -> Result<Self, Failure> {
        eprintln!("filling {} keys of {} bytes, {rounds} times", shape.keys, shape.value_bytes);
        Ok(Self {
            plinth: lab.fill_in_rounds(&format!("plinth{name}"), &lab.plinth, shape, rounds)?,
            etcd: lab.fill_in_rounds(&format!("etcd{name}"), &lab.etcd()?, shape, rounds)?,
        })
    }

    /// That of one of them.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Plinth => &self.plinth,
            Kind::Etcd => &self.etcd,
        }
    }
}

impl Comparison {
    fn ratio(&self, figure: Figure) -> Option<Ratio> {
        Ratio::of(&values(&self.plinth, figure)?, &values(&self.etcd, figure)?)
    }

    /// plinth's CPU per request in relation to etcd's.
    #[must_use]
    pub fn cpu_ratio(&self) -> Option<Ratio> {
        self.ratio(Outcome::server_us_per_request)
    }

    /// A table in Markdown.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "| {}, {} | plinth | etcd | ratio (min to max) |\n|---|---|---|---|\n",
            self.op.name(),
            self.clients
        );
        for (name, digits, figure) in FIGURES {
            let told = |outcomes: &[Outcome]| {
                let value = values(outcomes, figure).and_then(|values| median(&values));
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let ratio = self.ratio(figure).filter(|ratio| ratio.median.is_finite());
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
            text += &format!("| {name} | {} | {} | {ratio} |\n", told(&self.plinth), told(&self.etcd));
        }
        let disturbed =
            self.plinth.iter().chain(&self.etcd).filter(|outcome| outcome.disturbance.is_too_much()).count();
        if disturbed > 0 {
            text += &format!("\nDISTURBED: {disturbed} of {} turns\n", self.plinth.len() + self.etcd.len());
        }
        text
    }

    /// Every turn whole.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let all = |outcomes: &[Outcome]| outcomes.iter().map(to_json).collect::<Vec<_>>();
        json!({
            "op": self.op.name(),
            "connections": self.clients.connections,
            "streams": self.clients.streams,
            "plinth": all(&self.plinth),
            "etcd": all(&self.etcd),
        })
    }
}

/// The figure of each turn; `None` if a turn doesn't give it.
fn values(outcomes: &[Outcome], figure: Figure) -> Option<Vec<f64>> {
    outcomes.iter().map(figure).collect()
}

fn usage() -> String {
    format!(
        "\
usage: plinth-bench versus [options]
  --op OP             put, range, list, count or empty; default: put, then range
  --serializable      ranges don't ask the leader
  --clients CxS       connections x streams; default: 1x1, 8x64 and 512x1 in turn
{}",
        lab::USAGE
    )
}

/// `plinth-bench versus`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{}", usage());
        return Ok(());
    }
    let serializable = args.switch("--serializable");
    let ops = match args.optional::<String>("--op")? {
        None => vec![Op::Put, Op::Range { serializable }],
        Some(name) => vec![Op::parse(&name, serializable)?],
    };
    let clients = match args.optional::<Clients>("--clients")? {
        None => CLIENTS.to_vec(),
        Some(clients) => vec![clients],
    };
    let lab = Lab::new(&mut args)?;
    args.finish()?;
    println!("{}\n", lab.to_text()?);
    let filled = Filled::new(&lab)?;
    let mut results = Vec::new();
    for op in ops {
        for clients in &clients {
            let comparison = compare(&lab, &filled, op, *clients)?;
            println!("{}", comparison.to_text());
            results.push(comparison.to_json());
        }
    }
    lab.write_json("versus", &Value::Array(results))
}
