//! What a person at a terminal sees.

use std::{
    fs::File,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    node::{Bench, private_dir},
    outcome::{Ended, Outcome, ensure, ensure_contains},
};

const WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// How long a server may take to obey Ctrl-C when its case is over.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// What the key Ctrl-C sends.
const CTRL_C: &[u8] = b"\x03";

/// A server at a terminal of its own, which util-linux's `script` makes.
struct AtTerminal {
    script: Child,
    scratch: TempDir,
}

impl AtTerminal {
    fn start(bench: &Bench, data: &Path) -> Result<Self, Ended> {
        let scratch = TempDir::new()?;
        let out = File::create(scratch.path().join("screen"))?;
        let command = format!(
            "exec {} --data-dir {} --cores 1 --listen-client-urls http://127.0.0.1:0 --advertise-client-urls http://node.test:7",
            bench.plinth.display(),
            data.display()
        );
        let script = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .map_err(|error| Ended::Skipped(format!("script: {error}")))?;
        Ok(Self { script, scratch })
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.scratch.path().join("screen")).unwrap_or_default()).into_owned()
    }

    fn wait_for(&mut self, text: &str) -> Outcome {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.screen().contains(text) {
            let ended = self.script.try_wait()?;
            ensure(ended.is_none() && Instant::now() < deadline, || {
                format!("{ended:?}; on the screen:\n{}", self.screen())
            })?;
            sleep(POLL);
        }
        Ok(())
    }

    /// Presses Ctrl-C; gives the exit code.
    fn interrupt(&mut self) -> Result<Option<i32>, Ended> {
        self.script.stdin.take().expect("it was piped").write_all(CTRL_C)?;
        Ok(self.script.wait()?.code())
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        // Ctrl-C first: hanging up the terminal doesn't end a server that was started under nohup.
        if let Some(mut stdin) = self.script.stdin.take() {
            stdin.write_all(CTRL_C).ok();
            let patience = Instant::now() + END_PATIENCE;
            while matches!(self.script.try_wait(), Ok(None)) && Instant::now() < patience {
                sleep(POLL);
            }
        }
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

pub(super) fn a_terminal_is_told_where_it_listens_and_what_to_try(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let mut terminal = AtTerminal::start(bench, dir.path())?;
    terminal.wait_for("try ")?;
    let screen = terminal.screen();
    let data = format!("data     {}", dir.path().display());
    ensure_contains(&screen, &["ready to serve client requests", "listens  127.0.0.1:", &data])?;
    ensure_contains(&screen, &["serving client traffic", "etcdctl --endpoints=http://node.test:7 put greeting hello"])?;
    let lines = screen.lines().count();
    ensure(lines <= 6 && !screen.contains("{\""), || format!("a few plain lines were expected:\n{screen}"))
}

pub(super) fn ctrl_c_at_a_terminal_exits_130(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let mut terminal = AtTerminal::start(bench, dir.path())?;
    terminal.wait_for("try ")?;
    let code = terminal.interrupt()?;
    ensure(code == Some(130), || format!("exit code {code:?}; on the screen:\n{}", terminal.screen()))?;
    bench.ensure_sound(dir.path())
}
