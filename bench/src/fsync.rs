//! What a disk can do for a log: how long it takes until a write is durable, by each method, in the situations that a log meets, and what that
//! means.
//!
//! | module | job |
//! |---|---|
//! | `options` | the command line |
//! | `place` | whether a directory is worth measuring |
//! | `method` | the ways to make a write durable |
//! | `cell` | a method in a situation; which of them are measured |
//! | `files` | what is written to |
//! | `slice` | a stretch of one cell |
//! | `neighbour` | who else uses the device meanwhile |
//! | `measure` | cells in turns |
//! | `first_start` | plinth's own measurement |
//! | `progress` | the live line |
//! | `summary` | a cell in a few numbers |
//! | `verdict` | what they mean |
//! | `report` | text and JSON |
//! | `trouble` | why something wasn't measured |
//! | `alone` | one cell, for other commands |

mod alone;
mod cell;
mod files;
mod first_start;
mod measure;
mod method;
mod neighbour;
mod options;
mod place;
mod progress;
mod report;
mod slice;
mod summary;
mod trouble;
mod verdict;

use std::{
    io::{Write, stdout},
    path::Path,
};

pub use self::{
    alone::{Medians, Written},
    method::Method,
};
use self::{
    cell::Cell,
    files::Files,
    first_start::FirstStart,
    measure::{Measuring, Outcome},
    options::Options,
    progress::Progress,
    summary::Summary,
    trouble::Trouble,
};
use crate::{
    args::Args,
    cleanup::Scratch,
    facts::{Device, Facts},
    failure::Failure,
    procfs::{Disk, Disturbance},
    results::{self, Document},
};

const MIB: u64 = 1 << 20;
/// One lasts for 100 ms; the median of some is steadier than one.
const FIRST_STARTS: usize = 9;

/// `plinth-bench fsync`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{}", options::USAGE);
        return Ok(());
    }
    let options = options::parse(args)?;
    let facts = Facts::look(&options.dir);
    place::check(&options.dir, &facts, options.anyway)?;
    place::check_room(&options.dir, options.sizes)?;
    if let Some(path) = &options.json {
        results::expect_writable(path)?;
    }
    let scratch = Scratch::new(&options.dir)?;
    say(&facts.to_lines())?;
    let cells = measure(&options, &facts, scratch.path())?;
    let first_start = FirstStart::measure(scratch.path(), if options.is_quick { 1 } else { FIRST_STARTS });
    let [steal_percent, foreign_percent] = disturbance(&cells);
    let facts = Facts { steal_percent, foreign_percent, ..facts };
    let machine = results::Machine { text: facts.to_text(), facts: facts.to_json() };
    let summaries: Vec<Summary> = cells.iter().map(|(cell, outcome)| Summary::of(*cell, outcome)).collect();
    let results = report::results(&cells, &first_start, &verdict::judge(&facts, &summaries, &first_start));
    let document = Document::new("fsync", machine, Vec::new(), report::method(&options), results);
    say(&report::of_document(&document)?)?;
    if let Some(path) = &options.json {
        results::write(path, &document)?;
    }
    say(&format!("{} cells measured in {}\n", count(&cells), options.dir.display()))
}

/// A whole run as it was printed.
pub fn text_of(document: &Document) -> Result<String, Failure> {
    let facts: Facts = results::decode(&document.machine.facts, "facts")?;
    Ok(format!("{}\n{}", facts.to_lines(), report::of_document(document)?))
}

/// A reader that has gone away is an error like others: what was made is removed then, too.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Trouble(format!("printing: {error}")))
}

/// All cells, in the order in which they were measured.
fn measure(options: &Options, facts: &Facts, scratch: &Path) -> Result<Vec<(Cell, Outcome)>, Failure> {
    let files = Files::new(scratch, options.sizes);
    let all = if options.is_full { cell::everything() } else { vec![cell::methods()] };
    let count = all.iter().map(Vec::len).sum::<usize>() + if options.is_full { 0 } else { SITUATIONS };
    let seconds = count as f64 * options.duration.as_secs_f64();
    say(&format!("{count} cells of {} s: about {}\n\n", options.duration.as_secs_f64(), long_time(seconds)))?;
    let mut measuring = Measuring {
        files: &files,
        duration: options.duration,
        core: options.core,
        disk: counting(facts),
        progress: Progress::new(options.duration * u32::try_from(count).unwrap_or(u32::MAX)),
    };
    let mut cells = Vec::new();
    for group in &all {
        let rounds = if group.iter().all(|cell| *cell == Cell::plain(cell.method)) {
            options.rounds.0
        } else {
            options.rounds.1
        };
        run_group(&mut measuring, group, rounds, &mut cells, options)?;
    }
    if !options.is_full {
        let summaries: Vec<Summary> = cells.iter().map(|(cell, outcome)| Summary::of(*cell, outcome)).collect();
        if let Some(best) = verdict::best(&summaries) {
            run_group(&mut measuring, &cell::situations(best.cell.method), options.rounds.1, &mut cells, options)?;
        }
    }
    Ok(cells)
}

/// The first device from the top that counts flushes: those made of others leave it to them.
fn counting(facts: &Facts) -> Option<Disk> {
    let mut disks = facts.device.iter().flat_map(Device::all).map(|device| Disk::named(&device.name));
    disks.find(|disk| disk.sample().is_ok_and(|sample| sample.flushes > 0))
}

/// How many cells [`cell::situations`] gives.
const SITUATIONS: usize = 7;

fn run_group(
    measuring: &mut Measuring<'_>,
    group: &[Cell],
    rounds: u32,
    cells: &mut Vec<(Cell, Outcome)>,
    options: &Options,
) -> Result<(), Failure> {
    let outcomes = measuring.in_turns(group, rounds).map_err(|trouble| failure(&trouble, options))?;
    cells.extend(group.iter().copied().zip(outcomes));
    Ok(())
}

fn failure(trouble: &Trouble, options: &Options) -> Failure {
    let dir = options.dir.display();
    Failure::Trouble(match trouble {
        Trouble::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            let needed = options.sizes.needed().div_ceil(MIB);
            format!("the disk below {dir} is full: {needed} MiB must stay free while it is measured")
        }
        trouble => format!("measuring in {dir}: {trouble}"),
    })
}

/// Steal and foreign CPU time over all that was measured.
fn disturbance(cells: &[(Cell, Outcome)]) -> [Option<f64>; 2] {
    let measured = || cells.iter().filter_map(|(_, outcome)| outcome.measured());
    let seconds: f64 = measured().map(|measured| measured.tally.elapsed.as_secs_f64()).sum();
    let of = |percent: fn(&Disturbance) -> f64| {
        let weighted = measured().map(|found| percent(&found.disturbance) * found.tally.elapsed.as_secs_f64());
        (seconds > 0.0).then(|| weighted.sum::<f64>() / seconds)
    };
    [of(|others| others.steal_percent), of(|others| others.foreign_percent)]
}

fn count(cells: &[(Cell, Outcome)]) -> usize {
    cells.iter().filter_map(|(_, outcome)| outcome.measured()).count()
}

fn long_time(seconds: f64) -> String {
    if seconds >= 120.0 { format!("{:.0} minutes", seconds / 60.0) } else { format!("{:.0} seconds", seconds.ceil()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_cells_is_known_beforehand() {
        assert_eq!(cell::situations(Method::RingDsync).len(), SITUATIONS);
        assert_eq!(long_time(52.0), "52 seconds");
        assert_eq!(long_time(2160.0), "36 minutes");
    }
}
