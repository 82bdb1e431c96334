//! `plinth-crash`: runs crash tests and says how many acknowledged writes were lost. See [`plinth_crash`].

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use plinth_crash::{
    cleanup,
    options::{Mode, Options, USAGE},
    run::{Failure, Report, run},
};

/// What test drivers take for "skipped".
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("plinth-crash: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = cleanup::install() {
        eprintln!("plinth-crash: signals: {error}");
        return ExitCode::FAILURE;
    }
    if options.checker.is_empty() {
        println!("note: no --checker, so the files themselves are not checked");
    }
    let seed = options.seed.unwrap_or_else(seed_of_clock);
    if options.expect_loss { expect_loss(&options, seed) } else { expect_none_lost(&options, seed) }
}

fn seed_of_clock() -> u64 {
    // Six digits are enough to differ and short enough to type.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64 % 1_000_000)
}

fn mode_of_run(options: &Options, i: u64) -> Mode {
    options.mode.unwrap_or(if i.is_multiple_of(2) { Mode::Kill } else { Mode::Power })
}

fn expect_none_lost(options: &Options, first_seed: u64) -> ExitCode {
    let (mut runs, mut acknowledged, mut skipped) = (0, 0, 0);
    for i in 0..options.runs {
        let (mode, seed) = (mode_of_run(options, i), first_seed + i);
        let keep = options.keep.join(format!("{}-{seed}", mode.name()));
        match run(options, mode, seed, &keep) {
            Ok(report) => {
                runs += 1;
                acknowledged += report.acknowledged;
                print_report(i + 1, mode, seed, &report);
            }
            Err(Failure::Unavailable(why)) => {
                skipped += 1;
                println!("skipped: {} run: {why}", mode.name());
            }
            Err(failure) => {
                println!("FAILED {} run, seed {seed}: {}", mode.name(), in_words(&failure));
                println!("its data is kept in {}; to replay:\n{}", keep.display(), options.replay(mode, seed));
                println!("{} runs, {acknowledged} acknowledged writes before the failure", runs + 1);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{runs} runs, {acknowledged} acknowledged writes, 0 lost");
    if runs == 0 && skipped > 0 { ExitCode::from(SKIPPED) } else { ExitCode::SUCCESS }
}

fn print_report(number: u64, mode: Mode, seed: u64, report: &Report) {
    let Report { acknowledged, in_doubt, in_doubt_applied, events, leases, compacted, .. } = report;
    let Report { checkpoints, crashes, recovery_crashes, cut, .. } = report;
    print!("run {number}, {}, seed {seed}: {acknowledged} acknowledged", mode.name());
    print!(", {in_doubt} in doubt ({in_doubt_applied} applied), {events} events, {leases} leases");
    print!(", compacted to {compacted}");
    print!(", {checkpoints} checkpoints");
    print!(", {crashes} crashes, {recovery_crashes} more during recovery");
    if mode == Mode::Power {
        let (kept, dropped, torn) = (cut.sectors_kept, cut.sectors_dropped, cut.sectors_torn);
        print!("; cuts kept {kept}, dropped {dropped}, tore {torn} sectors");
        print!(", kept {}, dropped {} names", cut.dir_ops_kept, cut.dir_ops_dropped);
    }
    println!();
}

fn in_words(failure: &Failure) -> String {
    match failure {
        Failure::Unavailable(why) | Failure::Broken(why) => why.clone(),
        Failure::Refused(why) => format!("the server refuses its data: {why}"),
        Failure::Lost(why) => format!("writes lost or invented: {why}"),
        Failure::Unsound(why) => format!("the files are unsound: {why}"),
    }
}

/// For a server without its flush: a test that can't see the loss is none.
fn expect_loss(options: &Options, first_seed: u64) -> ExitCode {
    let (mut lost, mut refused) = (0, 0);
    for seed in first_seed..first_seed + options.runs {
        let keep = options.keep.join("expected-loss");
        match run(options, Mode::Power, seed, &keep) {
            Ok(report) => println!("seed {seed}: nothing of {} acknowledged writes lost", report.acknowledged),
            Err(Failure::Unavailable(why)) => {
                println!("skipped: {why}");
                return ExitCode::from(SKIPPED);
            }
            Err(Failure::Broken(why)) => {
                println!("FAILED, seed {seed}, for another reason than loss: {why}");
                return ExitCode::FAILURE;
            }
            Err(failure @ Failure::Unsound(_)) => println!("seed {seed}: nothing lost, but {}", in_words(&failure)),
            Err(failure @ Failure::Lost(_)) => {
                println!("seed {seed}: {}", in_words(&failure).lines().next().unwrap_or_default());
                lost += 1;
            }
            Err(Failure::Refused(why)) => {
                let why = why.trim_end().lines().next_back().unwrap_or_default();
                println!("seed {seed}: lost, the server itself noticed: {why}");
                lost += 1;
                refused += 1;
            }
        }
    }
    println!("in {refused} of them the server noticed");
    println!("{lost} of {} power runs lost writes", options.runs);
    if lost * 10 >= options.runs * 9 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
