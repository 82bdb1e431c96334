//! Two servers in turns on the same disk: A B A B ...
//!
//! | module | job |
//! |---|---|
//! | `scenario` | what is asked of both, from a file |
//! | `catalogue` | the scenarios that this program has with it |
//! | `sides` | which two servers |
//! | `homes` | filled directories, made once for all turns that begin alike |
//! | `turn` | one turn of one server |
//! | `bare` | what a put in a cluster can't do without |
//! | `contest` | scenarios, one after the other |
//! | `pairs` | turns in pairs, again if others got in the way |
//! | `comparison` | what came of it: figures, ratios, tables |

mod bare;
mod catalogue;
mod comparison;
mod contest;
mod homes;
mod pairs;
mod scenario;
mod sides;
mod turn;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::{comparison::Comparison, turn::Target};
use self::{
    contest::Contest,
    pairs::Pairs,
    scenario::Scenario,
    sides::Side,
    turn::{Start, Turn},
};
use crate::{
    args::Args,
    failure::Failure,
    lab::{self, Lab, QUICK_KEYS},
    load::{Clients, Op},
    results::{self, Document},
    server::{Home, MEMBERS, Program},
};

/// The client counts of every figure here: one client, and 512 in both shapes.
pub const CLIENTS: [Clients; 3] = [
    Clients { connections: 1, streams: 1 },
    Clients { connections: 8, streams: 64 },
    Clients { connections: 512, streams: 1 },
];
/// What is run when nobody says.
const DEFAULT: [&str; 2] = ["put-8x64", "range-8x64"];

/// A document's `results`.
#[derive(Default, Debug, Serialize, Deserialize)]
struct Told {
    members: usize,
    /// Whether a cluster's load goes to its leader alone.
    #[serde(default)]
    to_leader: bool,
    comparisons: Vec<Comparison>,
}

fn usage() -> String {
    format!(
        "\
usage: plinth-bench versus [SCENARIO...] [options]
  SCENARIO            a name that --list tells, or the path of a file such as bench/scenarios/*.toml;
                      default: {}
  --all               all that --list tells
  --list              tells them
  --a PATH, --b PATH  the two servers, plinth or etcd, each; default: --plinth and --etcd
  --members N         1 or 3 (then servers and load share both cores); default 1
  --to WHICH          of several members: leader, or all, connection by connection; default leader
{}",
        DEFAULT.join(" "),
        lab::USAGE
    )
}

/// `plinth-bench versus`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{}", usage());
        return Ok(());
    }
    if args.switch("--list") {
        args.finish()?;
        print!("{}", catalogue::list()?);
        return Ok(());
    }
    let all = args.switch("--all");
    let members = args.value("--members", 1)?;
    if members != 1 && members != MEMBERS {
        return Err(Failure::Usage(format!("--members is 1 or {MEMBERS}, not {members}")));
    }
    let target: Option<Target> = args.optional("--to")?;
    if target.is_some() && members == 1 {
        return Err(Failure::Usage("--to says nothing without --members".to_owned()));
    }
    let (a, b) = (args.optional("--a")?, args.optional("--b")?);
    let lab = Lab::new(&mut args)?;
    let names = args.words();
    args.finish()?;
    let scenarios = chosen(&names, all, lab.is_quick)?;
    let sides = sides::choose(&lab, a, b)?;
    run_all(Contest::new(&lab, sides, members, target.unwrap_or_default()), &scenarios)
}

fn chosen(names: &[String], all: bool, is_quick: bool) -> Result<Vec<Scenario>, Failure> {
    let scenarios = match (all, names) {
        (true, []) => catalogue::all(),
        (true, _) => Err(Failure::Usage("--all are all: name none beside it".to_owned())),
        (false, []) => DEFAULT.iter().map(|name| catalogue::find(name)).collect(),
        (false, names) => names.iter().map(|name| catalogue::find(name)).collect(),
    }?;
    let quick = |scenario: Scenario| if is_quick { scenario.with_keys_max(QUICK_KEYS) } else { Ok(scenario) };
    scenarios.into_iter().map(quick).collect()
}

/// Clusters of plinth and of etcd in scenarios of these names; the load goes to the leaders.
pub fn in_clusters(lab: &Lab, names: &[&str]) -> Result<Vec<Comparison>, Failure> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let scenarios = chosen(&names, false, lab.is_quick)?;
    let mut contest = Contest::new(lab, sides::choose(lab, None, None)?, MEMBERS, Target::Leader);
    scenarios.iter().map(|scenario| contest.run(scenario)).collect()
}

/// A scenario that fails is told, and the others go on.
fn run_all(mut contest: Contest<'_>, scenarios: &[Scenario]) -> Result<(), Failure> {
    let lab = contest.lab;
    let programs: Vec<_> = contest.sides.iter().map(|side| side.program.facts(&side.name)).collect();
    let document = |told: &Told| lab.document("versus", programs.clone(), None, results::encode(told));
    let (members, to_leader) = (contest.members, contest.target == Target::Leader);
    let mut told = Told { members, to_leader, comparisons: Vec::new() };
    let mut failures = Vec::new();
    print!("{}", head(&document(&told), &told)?);
    for scenario in scenarios {
        match contest.run(scenario) {
            Ok(comparison) => {
                print!("{}", comparison.to_text());
                told.comparisons.push(comparison);
                lab.write_json(&document(&told))?;
            }
            Err(failure) => {
                eprintln!("{} FAILED: {failure}", scenario.name);
                failures.push(scenario.name.as_str());
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::Trouble(format!(
        "{} of {} scenarios failed: {}",
        failures.len(),
        scenarios.len(),
        failures.join(", ")
    )))
}

/// Two servers, each with its filled directory, with one kind of request.
pub fn compare(lab: &Lab, sides: [(&Program, &Path); 2], op: Op, clients: Clients) -> Result<Comparison, Failure> {
    let title = format!("{}, {clients}", op.name());
    let pairs = in_pairs(lab, &title, |number| {
        let (program, filled) = sides[number];
        let filled = &Home::alone(filled.to_path_buf());
        let start = Start { program, filled, flags: &[], target: Target::Leader, wants_bare: false };
        turn::take(lab, start, |endpoints| Ok(lab.plan_at(endpoints[0], op, clients)))
    })?;
    Ok(Comparison::of(&title, "", sides.map(|(program, _)| program.kind.name()), &pairs))
}

fn in_pairs(lab: &Lab, title: &str, turn: impl FnMut(usize) -> Result<Turn, Failure>) -> Result<Pairs<Turn>, Failure> {
    pairs::take(title, lab.method.turns, lab.method.repeats_max, Turn::trouble, turn)
}

fn head(document: &Document, told: &Told) -> Result<String, Failure> {
    let target = if told.to_leader { "its leader" } else { "all its members, connection by connection" };
    let cluster = match told.members {
        0 | 1 => String::new(),
        members => format!(
            "clusters of {members} members, which share all these cores with the load; memory, CPU and context switches are theirs together; \
             the load of each goes to {target}\n"
        ),
    };
    Ok(format!("{}{cluster}", lab::head(document)?))
}

/// A whole run as it was printed.
pub fn text_of(document: &Document) -> Result<String, Failure> {
    let told: Told = results::decode(&document.results, "results")?;
    let tables: String = told.comparisons.iter().map(Comparison::to_text).collect();
    Ok(head(document, &told)? + &tables)
}

/// Whether a word of the command line is a path and no name.
fn is_path(word: &str) -> bool {
    word.contains('/') || Path::new(word).extension().is_some_and(|extension| extension == "toml")
}

#[cfg(test)]
mod tests;
