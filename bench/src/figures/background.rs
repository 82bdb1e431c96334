//! What goes on in the background, and what it costs those who put meanwhile: checkpoints, a compaction, a backup, a scrub, each against none.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Figures, Part,
    aim::Aim,
    beside::{CLIENTS, P99, Puts, add_pair},
    compaction::{self, History},
    snapshot,
    table::{Sheet, Table, in_turns, in_turns_alone},
};
use crate::{
    failure::Failure,
    lab::{Filled, Lab},
    load::{Pace, Shape},
    metrics::Metrics,
    server::{Kind, Program, Server},
};

/// The p99 of puts in parts of that without.
const P99_MAX: f64 = 1.5;
const MIB: f64 = (1 << 20) as f64;

/// So few puts that those without a checkpoint change less than one takes, in as long as is measured.
const RATE_OF_CHANGES: f64 = 2000.0;
const CHANGE_BYTES: usize = 64;
/// Keys that lie together on a few pages.
const KEYS_TOGETHER: u64 = 1000;
/// What checkpoints have not written by then is not waited for.
const CHECKPOINTS_MAX: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const BACKGROUND_BYTES: &str = "plinth_background_bytes_total";
const CHECKPOINT: &str = "{use=\"checkpoint\"}";
const CHECKPOINTS: &str = "etcd_disk_backend_commit_duration_seconds_count";
const CHANGED_BYTES: &str = "plinth_tree_changed_page_bytes";

/// How much longer than the load a pass of the scrub takes: the start, and what comes before the load, is in it.
const SCRUB_MARGIN: Duration = Duration::from_secs(10);
const SCRUB_PAGES: &str = "plinth_scrub_pages_total";
const SCRUB_PASSES: &str = "plinth_scrub_passes_total";
const PAGE_BYTES: f64 = 4096.0;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled_large_pair()?;
    let history = History::new(figures)?;
    let large = figures.filled_large_pair.as_ref().expect("it was just filled");
    let all = [
        ("checkpoints", checkpoints(figures, large)),
        ("a compaction", compactions(figures, &history)),
        ("a backup", backups(figures, large)),
        ("a scrub", scrubs(figures, large)),
    ];
    let (mut text, mut json, mut aims) = (String::new(), Vec::new(), Vec::new());
    for (what, told) in all {
        // One that fails is told, and its aim is not reached: the others are not thrown away for it.
        let (told, turns, p99) = match told {
            Ok((about, table)) => {
                (format!("{about}\n\n{}\n", table.to_text()), table.to_json(), table.median(Kind::Plinth, P99))
            }
            Err(failure) => (format!("Beside {what} FAILED: {failure}\n\n"), Value::Null, f64::NAN),
        };
        text += &told;
        json.push(json!({ "beside": what, "turns": turns }));
        aims.push(Aim::at_most(format!("put p99 beside {what}, in parts of that without"), P99_MAX, p99));
    }
    Ok(Part { text, json: json.into(), aims })
}

/// What is said above a table, and the table.
type Told = (String, Table);

/// The same number of puts, over all keys, which changes a leaf or two for each, and over a few, which changes next to nothing.
fn checkpoints(figures: &Figures, large: &Filled) -> Result<Told, Failure> {
    let (lab, wanted) = (&figures.lab, figures.changes_bytes);
    let table = in_turns(lab, "checkpoints", |program| {
        let (without, beside) = (KEYS_TOGETHER, figures.large.keys);
        let puts = |keys| {
            let shape = Shape { keys, value_bytes: CHANGE_BYTES, ..figures.large };
            let pace = Pace::Open { rate: RATE_OF_CHANGES };
            Puts { lab, program, filled: large.of(program.kind), shape, pace }
        };
        let (without, nothing) = puts(without).beside(&[], |server| observe(lab, server, 0))?;
        let bytes = if program.kind == Kind::Plinth { wanted } else { 0 };
        let (beside, seen) = puts(beside).beside(&[], |server| observe(lab, server, bytes))?;
        let mut sheet = Sheet::default();
        add_pair(&mut sheet, &without, &beside);
        sheet.add("checkpoints, without", 0, nothing.checkpoints);
        sheet.add("checkpoints", 0, seen.checkpoints);
        sheet.add("written by checkpoints, MiB", 0, seen.written_mib);
        sheet.add("most changed pages in memory, MiB", 1, seen.changed_mib);
        sheet.add("measured beside them, s", 1, beside.elapsed.as_secs_f64());
        Ok(sheet)
    })?;
    let about = format!(
        "{RATE_OF_CHANGES} puts a second ({CLIENTS}) of {CHANGE_BYTES} bytes: over all {} keys of a database with values of {} bytes until checkpoints have written {:.0} MiB, \
         against {KEYS_TOGETHER} keys side by side. etcd writes changed pages whenever it commits; it is measured for {} s.",
        figures.large.keys,
        figures.large.value_bytes,
        wanted as f64 / MIB,
        lab.method.measured.as_secs_f64()
    );
    Ok((about, table))
}

/// What checkpoints did.
struct Seen {
    checkpoints: f64,
    written_mib: f64,
    /// The most at once.
    changed_mib: f64,
}

/// Looks on for as long as is measured, and until checkpoints have written so many bytes. A server without these metrics has no number of anything.
fn observe(lab: &Lab, server: &Server, bytes: u64) -> Result<Seen, Failure> {
    let scrape = || server.metrics().map(Metrics);
    let (before, began) = (scrape()?, Instant::now());
    let mut changed_bytes: f64 = 0.0;
    loop {
        let now = scrape()?;
        changed_bytes = changed_bytes.max(now.value(CHANGED_BYTES));
        let written = now.labelled(BACKGROUND_BYTES, CHECKPOINT) - before.labelled(BACKGROUND_BYTES, CHECKPOINT);
        let is_enough = began.elapsed() >= lab.method.measured && written >= bytes as f64;
        if is_enough || began.elapsed() >= CHECKPOINTS_MAX {
            let known = |value: f64| if now.has(BACKGROUND_BYTES) { value } else { f64::NAN };
            return Ok(Seen {
                checkpoints: known(now.since(&before, CHECKPOINTS)),
                written_mib: known(written / MIB),
                changed_mib: known(changed_bytes / MIB),
            });
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn compactions(figures: &Figures, history: &History) -> Result<Told, Failure> {
    let lab = &figures.lab;
    let mut paces = Paces::default();
    let table = in_turns(lab, "compaction", |program| {
        let puts = paces.half(&puts(lab, program, &history.filled))?;
        compaction::measure(&puts, history)
    })?;
    let about = format!(
        "{} keys, each written {} times, and a physical compaction that removes {} versions. {}",
        lab.method.shape.keys,
        history.rounds,
        history.superseded,
        paces.told()
    );
    Ok((about, table))
}

fn backups(figures: &Figures, large: &Filled) -> Result<Told, Failure> {
    let lab = &figures.lab;
    let mut paces = Paces::default();
    let table = in_turns(lab, "backup", |program| {
        let puts = paces.half(&puts(lab, program, large))?;
        snapshot::beside_puts(&puts)
    })?;
    let about = format!(
        "{} keys of {} bytes, and a snapshot that is read as fast as it comes. {}",
        figures.large.keys,
        figures.large.value_bytes,
        paces.told()
    );
    Ok((about, table))
}

fn scrubs(figures: &Figures, large: &Filled) -> Result<Told, Failure> {
    let lab = &figures.lab;
    let interval = lab.method.warmup + lab.method.measured + SCRUB_MARGIN;
    let scrub = |interval: Duration| vec![format!("--scrub-interval={}ms", interval.as_millis())];
    let mut paces = Paces::default();
    let table = in_turns_alone(lab, "scrub", |program| {
        let puts = paces.half(&puts(lab, program, large))?;
        let without = puts.without(&scrub(Duration::ZERO))?;
        let (beside, (pages, passes)) = puts.beside(&scrub(interval), |server| {
            let before = Metrics(server.metrics()?);
            thread::sleep(lab.method.measured);
            let after = Metrics(server.metrics()?);
            Ok((after.since(&before, SCRUB_PAGES), after.since(&before, SCRUB_PASSES)))
        })?;
        let mut sheet = Sheet::default();
        add_pair(&mut sheet, &without, &beside);
        sheet.add("scrubbed meanwhile, MiB", 0, pages * PAGE_BYTES / MIB);
        sheet.add("scrubbed, MiB/s", 1, pages * PAGE_BYTES / MIB / beside.elapsed.as_secs_f64());
        sheet.add("passes that ended meanwhile", 0, passes);
        Ok(sheet)
    })?;
    let about = format!(
        "{} keys of {} bytes, and a pass of the scrub in {:.0} s instead of a day. etcd has none. {}",
        figures.large.keys,
        figures.large.value_bytes,
        interval.as_secs_f64(),
        paces.told()
    );
    Ok((about, table))
}

fn puts<'a>(lab: &'a Lab, program: &'a Program, filled: &'a Filled) -> Puts<'a> {
    Puts { lab, program, filled: filled.of(program.kind), shape: lab.method.shape, pace: Pace::Closed }
}

/// Half of what each server reaches, found out before its first turn.
#[derive(Default)]
struct Paces(Vec<(Kind, Pace)>);

impl Paces {
    fn half<'a>(&mut self, puts: &Puts<'a>) -> Result<Puts<'a>, Failure> {
        let kind = puts.program.kind;
        if let Some((_, pace)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Ok(Puts { pace: *pace, ..*puts });
        }
        let pace = puts.half_rate()?;
        self.0.push((kind, pace));
        Ok(Puts { pace, ..*puts })
    }

    fn told(&self) -> String {
        let rates = self.0.iter().filter_map(|(kind, pace)| match pace {
            Pace::Open { rate } => Some(format!("{} {rate:.0}", kind.name())),
            Pace::Closed => None,
        });
        format!(
            "Puts {CLIENTS}, half as many a second as a closed loop reaches: {}.",
            rates.collect::<Vec<_>>().join(", ")
        )
    }
}
