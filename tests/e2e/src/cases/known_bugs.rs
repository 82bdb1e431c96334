//! The server that users get has none of the bugs that builds for tests can switch on.

use std::fs;

use plinth_base::bug::{BUGS_VAR, Bug};

use crate::{
    kv::failed,
    node::{Bench, Node, private_dir},
    outcome::{Outcome, ensure},
};

pub(super) fn the_binary_holds_no_known_bug(bench: &Bench) -> Outcome {
    let binary = fs::read(&bench.plinth)?;
    let text = String::from_utf8_lossy(&binary);
    let names = Bug::ALL.iter().map(|bug| format!("{bug:?}"));
    for name in names.chain([BUGS_VAR.to_owned()]) {
        ensure(!text.contains(&name), || format!("{name} occurs in {}", bench.plinth.display()))?;
    }
    Ok(())
}

/// A build with known bugs ends at the first place of one if the variable names none that it knows.
pub(super) fn nothing_listens_to_the_variable_of_known_bugs(bench: &Bench) -> Outcome {
    let dir = private_dir()?;
    let mut command = bench.command(dir.path(), &[]);
    command.env(BUGS_VAR, "NoSuchBug");
    let node = Node::start(command)?;
    node.kv()?.put("key", b"value").map_err(failed("put"))?;
    node.stop()?;
    bench.ensure_sound(dir.path())
}
