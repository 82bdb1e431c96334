//! Clusters of three members, plinth's and etcd's in turns: what a request costs all servers together, and one client's put against what it
//! can't do without.

use super::{Figures, Part, aim::Aim};
use crate::{
    failure::Failure,
    results,
    versus::{Comparison, in_clusters},
};

/// Said above the tables.
const ABOUT: &str = "Three members each, which share all cores with the load; it goes to the first, which leads. \
                     CPU, memory and context switches are those of all members.\n";
const PUTS: [&str; 3] = ["put-1", "put-8x64", "put-512x1"];
const RANGES: [&str; 3] = ["range-1", "range-8x64", "range-512x1"];
/// CPU per put of all members in parts of etcd's, as in [`PUTS`]: with one stream per connection the sockets cost most, and they cost both the same.
const PUT_COST_MAX: [f64; PUTS.len()] = [0.5, 0.25, 0.5];
/// One client's p50 in parts of two round trips and a durable write.
const ONE_CLIENT_MAX: f64 = 1.4;

pub(super) fn puts(figures: &mut Figures) -> Result<Part, Failure> {
    let comparisons = in_clusters(&figures.lab, &PUTS)?;
    let mut aims = Vec::new();
    for (limit, (name, comparison)) in PUT_COST_MAX.into_iter().zip(PUTS.iter().zip(&comparisons)) {
        let ratio = comparison.cpu_ratio().unwrap_or(f64::NAN);
        aims.push(Aim::at_most(format!("three members' CPU per request, {name}, in parts of etcd's"), limit, ratio));
    }
    let one_client = comparisons.first().and_then(Comparison::p50_per_bare).unwrap_or(f64::NAN);
    let what = "one client's put p50 at three members, in parts of two round trips and one durable write";
    aims.push(Aim::at_most(what, ONE_CLIENT_MAX, one_client));
    Ok(Part { aims, ..told(&comparisons) })
}

pub(super) fn ranges(figures: &mut Figures) -> Result<Part, Failure> {
    Ok(told(&in_clusters(&figures.lab, &RANGES)?))
}

fn told(comparisons: &[Comparison]) -> Part {
    let tables: String = comparisons.iter().map(Comparison::to_text).collect();
    Part { text: format!("{ABOUT}{tables}"), json: results::encode(&comparisons), aims: Vec::new() }
}
