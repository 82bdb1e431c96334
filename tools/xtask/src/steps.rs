//! Lists of commands that must succeed, one line of output each.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Stdio,
    time::Instant,
};

use crate::{
    peers,
    shell::{EXIT_SKIPPED, Failure, Outcome, command, has_program, target_dir},
};

/// Lines of a failed step's output that are shown.
const FAILURE_LINES_MAX: usize = 60;

/// A command that must succeed.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// What it shows.
    pub name: &'static str,
    /// Program and arguments.
    pub command: &'static [&'static str],
    /// Without these it can't run, and is skipped.
    pub needs: &'static [Need],
}

/// What a machine may lack.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// `target/peers` is filled.
    Peers,
    /// Programs may mount FUSE file systems.
    Fuse,
    /// Nobody listens on etcd's own port.
    Port2379,
    /// This is run by root.
    Root,
}

impl Need {
    fn lacking(self) -> Option<&'static str> {
        let (there, what) = match self {
            Self::Peers => (peers::are_there(), "no peers: `cargo xtask peers` fetches them"),
            Self::Fuse => (Path::new("/dev/fuse").exists() && has_program("fusermount3"), "no FUSE here"),
            Self::Port2379 => (TcpListener::bind((Ipv4Addr::LOCALHOST, 2379)).is_ok(), "port 2379 is taken"),
            // /proc/self belongs to whom the process belongs to.
            Self::Root => (fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0), "not root here"),
        };
        (!there).then_some(what)
    }
}

/// How a step ended.
#[derive(PartialEq, Eq, Debug)]
enum Ended {
    /// With success, and this as the last line of its output.
    Well(String),
    /// It can't run here, for this reason.
    Skipped(String),
    /// With a failure; this is the end of its output.
    Badly(String),
}

/// Runs `steps`, and ends with the one line that counts them. With `CI=true` nothing may be skipped.
pub(crate) fn run_steps(steps: &[Step]) -> Outcome {
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for step in steps {
        let start = Instant::now();
        let ended = run_step(step).unwrap_or_else(|error| Ended::Badly(error.to_string()));
        let seconds = start.elapsed().as_secs();
        match ended {
            Ended::Well(last_line) => {
                println!("ok    {} ({seconds} s) {last_line}", step.name);
                passed += 1;
            }
            Ended::Skipped(reason) if strict => {
                println!("FAIL  {}: {reason}, and CI=true lets nothing be skipped", step.name);
                failed += 1;
            }
            Ended::Skipped(reason) => {
                println!("skip  {}: {reason}", step.name);
                skipped += 1;
            }
            Ended::Badly(output) => {
                println!("FAIL  {} ({seconds} s)\n{output}", step.name);
                failed += 1;
            }
        }
    }
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    println!("{passed} passed, {failed} failed{skipped}");
    if failed == 0 { Ok(()) } else { Err(Failure::Exit(1)) }
}

/// Runs one step. Its whole output goes to a file below `target/steps`.
fn run_step(step: &Step) -> io::Result<Ended> {
    if let Some(reason) = step.needs.iter().find_map(|need| need.lacking()) {
        return Ok(Ended::Skipped(reason.to_owned()));
    }
    let folder = target_dir().join("steps");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.log", step.name.replace(' ', "-")));
    let log = File::create(&path)?;
    let (program, args) = step.command.split_first().expect("a step has a program");
    let status = command(program, args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).status()?;
    let output = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    let lines: Vec<&str> = output.lines().collect();
    let last_line = lines.last().copied().unwrap_or_default().trim().to_owned();
    if status.success() {
        return Ok(Ended::Well(last_line));
    }
    if status.code() == Some(i32::from(EXIT_SKIPPED)) {
        return Ok(Ended::Skipped(last_line));
    }
    let shown = lines[lines.len().saturating_sub(FAILURE_LINES_MAX)..].join("\n");
    Ok(Ended::Badly(format!("{shown}\n      {status}; all of it: {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Step = Step { name: "test passes", command: &["echo", "all", "well"], needs: &[] };
    const FAILS: Step = Step { name: "test fails", command: &["sh", "-c", "echo why; exit 3"], needs: &[] };
    const SKIPS: Step = Step { name: "test skips", command: &["sh", "-c", "echo not here; exit 77"], needs: &[] };
    const MISSING: Step = Step { name: "test missing", command: &["/nothing/here"], needs: &[] };

    #[test]
    fn a_step_gives_its_last_line_or_what_it_said_when_it_failed() {
        let ended = |step| run_step(step).expect("the program is there");
        assert_eq!(ended(&PASSES), Ended::Well("all well".to_owned()));
        assert_eq!(ended(&SKIPS), Ended::Skipped("not here".to_owned()));
        let Ended::Badly(output) = ended(&FAILS) else { panic!("it exits with 3") };
        assert!(output.contains("why") && output.contains("exit status: 3"), "{output}");
        assert!(run_step(&MISSING).is_err());
    }

    #[test]
    fn one_failed_step_fails_all() {
        // Names of its own: the tests may run at the same time, and each step has a log.
        let [first, second] = ["test first", "test second"].map(|name| Step { name, ..PASSES });
        assert!(run_steps(&[first, second]).is_ok());
        assert!(run_steps(&[first, Step { name: "test third", ..FAILS }]).is_err());
        assert!(run_steps(&[first, MISSING]).is_err());
    }
}
