//! `plinth-bench fsync` beside fio: the same writes to the same file on the same core, in turns.
//!
//! What is compared is the median of the write plus the median of the fdatasync after it: fio tells these two apart and knows no sum of the two for
//! each write, so that ours are told apart too.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{Figures, Part, aim::Aim};
use crate::{
    cleanup,
    failure::Failure,
    fsync::{Medians, Written},
    lab::Lab,
    procfs::{CpuSample, Disturbance},
    stats::{Ratio, median},
};

/// As far as medians of two programs may differ.
const APART_MAX: f64 = 0.15;
/// As long as a segment of plinth's log.
const FILE_BYTES: u64 = 64 << 20;

/// A time in µs that a turn gives.
type Figure = fn(&Medians) -> f64;

/// One program's figures of a turn.
#[derive(Clone, Copy)]
struct Turn {
    medians: Medians,
    disturbance: Disturbance,
}

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let path = lab.path("fio")?;
    let file = Written::new(&path, FILE_BYTES)?;
    let (mut ours, mut fios) = (Vec::new(), Vec::new());
    for number in 0..lab.method.turns {
        eprintln!("fio: pair {} of {}", number + 1, lab.method.turns);
        ours.push(turn(lab, |pid| {
            pid(std::process::id());
            let medians = file.measure_parts(lab.server_core, lab.method.measured)?;
            medians.ok_or_else(|| Failure::Trouble("too few writes for a median: give --seconds more".to_owned()))
        })?);
        fios.push(turn(lab, |pid| run_fio(lab, &path, pid))?);
    }
    Ok(part(&ours, &fios))
}

/// Measures, again while it is disturbed and may be repeated. `measure` says which process takes part.
fn turn(lab: &Lab, mut measure: impl FnMut(&mut dyn FnMut(u32)) -> Result<Medians, Failure>) -> Result<Turn, Failure> {
    let look = || CpuSample::read().map_err(|error| Failure::Trouble(format!("reading /proc: {error}")));
    lab.undisturbed(
        |turn: &Turn| turn.disturbance,
        || {
            let before = look()?;
            let mut taking_part = Vec::new();
            let medians = measure(&mut |pid| taking_part.push(pid))?;
            Ok(Turn { medians, disturbance: look()?.since(&before, &taking_part) })
        },
    )
}

fn run_fio(lab: &Lab, path: &Path, pid: &mut dyn FnMut(u32)) -> Result<Medians, Failure> {
    let trouble = |error: &dyn std::fmt::Display| {
        Failure::Trouble(format!("fio: {error}; Debian's package fio brings the program"))
    };
    let mut command = Command::new("fio");
    // As one thread of the process that was started, which is then the one that is killed and counted.
    command.args([
        "--name=log",
        "--thread",
        "--ioengine=psync",
        "--direct=1",
        "--fdatasync=1",
        "--rw=write",
        "--bs=4k",
    ]);
    command.args(["--allow_file_create=0", "--time_based", "--output-format=json", "--percentile_list=50"]);
    command.arg(format!("--filename={}", path.display())).arg(format!("--size={FILE_BYTES}"));
    command.arg(format!("--runtime={}ms", lab.method.measured.as_millis()));
    command.arg(format!("--cpus_allowed={}", lab.server_core));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| trouble(&error))?;
    let id = child.id();
    cleanup::register_child(id);
    pid(id);
    let output = child.wait_with_output();
    cleanup::forget_child(id);
    let output = output.map_err(|error| trouble(&error))?;
    if !output.status.success() {
        return Err(trouble(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    parse(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| trouble(&"it told no medians of write and sync"))
}

/// The medians in what fio prints. (Notes may come before the document.)
fn parse(output: &str) -> Option<Medians> {
    let document: Value = serde_json::from_str(&output[output.find('{')?..]).ok()?;
    let job = &document["jobs"][0];
    let us = |latencies: &Value| Some(latencies["percentile"]["50.000000"].as_f64()? / 1000.0);
    Some(Medians { write_us: us(&job["write"]["clat_ns"])?, sync_us: us(&job["sync"]["lat_ns"])? })
}

fn part(ours: &[Turn], fios: &[Turn]) -> Part {
    let mut text =
        "| direct write and fdatasync, 4 KiB, p50, µs | plinth-bench | fio | ratio (min to max) |\n|---|---|---|---|\n"
            .to_owned();
    let rows: [(&str, Figure); 3] = [
        ("write", |medians| medians.write_us),
        ("fdatasync", |medians| medians.sync_us),
        ("both", |medians| medians.write_us + medians.sync_us),
    ];
    let mut apart = f64::NAN;
    for (name, figure) in rows {
        let of = |turns: &[Turn]| turns.iter().map(|turn| figure(&turn.medians)).collect::<Vec<_>>();
        let (ours, fios) = (of(ours), of(fios));
        let told = |values: &[f64]| median(values).unwrap_or(f64::NAN);
        let ratio = Ratio::of(&ours, &fios);
        apart = ratio.map_or(f64::NAN, |ratio| (ratio.median - 1.0).abs());
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
        text += &format!("| {name} | {:.1} | {:.1} | {ratio} |\n", told(&ours), told(&fios));
    }
    let disturbed = ours.iter().chain(fios).filter(|turn| turn.disturbance.is_too_much()).count();
    if disturbed > 0 {
        text += &format!("\nDISTURBED: {disturbed} of {} turns\n", ours.len() + fios.len());
    }
    let json = |turn: &Turn| json!({ "write_p50_us": turn.medians.write_us, "sync_p50_us": turn.medians.sync_us });
    let all = |turns: &[Turn]| turns.iter().map(json).collect::<Vec<_>>();
    let aim = Aim::at_most("fsync: p50 of write + sync apart from fio's, as a part of it", APART_MAX, apart);
    Part { text, json: json!({ "plinth_bench": all(ours), "fio": all(fios) }), aims: vec![aim] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medians_of_both_calls_are_found_in_fios_output() {
        let output = r#"note: both iodepth >= 1
            {"jobs": [{"write": {"clat_ns": {"percentile": {"50.000000": 26240}}},
                       "sync": {"lat_ns": {"percentile": {"50.000000": 22144}}}}]}"#;
        assert_eq!(parse(output), Some(Medians { write_us: 26.24, sync_us: 22.144 }));
        assert_eq!(parse("{}"), None);
        assert_eq!(parse("fio: nothing"), None);
    }

    #[test]
    fn the_aim_is_the_median_of_the_pairs_ratios() {
        let turn = |write_us, sync_us| {
            let disturbance = Disturbance { steal_percent: 0.0, foreign_percent: 0.0 };
            Turn { medians: Medians { write_us, sync_us }, disturbance }
        };
        let ours = [turn(10.0, 90.0), turn(10.0, 100.0), turn(10.0, 290.0)];
        let fios = [turn(20.0, 80.0), turn(20.0, 80.0), turn(20.0, 80.0)];
        let part = part(&ours, &fios);
        assert!(
            part.aims[0].is_reached && part.aims[0].value.is_some_and(|value| (value - 0.1).abs() < 1e-9),
            "{:?}",
            part.aims
        );
        assert!(part.text.contains("| both | 110.0 | 100.0 | 1.100 (1.000 to 3.000) |"), "{}", part.text);
    }
}
