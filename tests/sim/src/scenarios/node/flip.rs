//! One bit of one file is wrong: the node refuses it and names the file, or nobody ever notices.

use plinth_base::Prng;
use plinth_node::ShardOptions;
use plinth_sim_env::{Faults, Sim, SimEnv, SimOptions};

use super::{
    checks,
    machine::{self, GROUPS},
};
use crate::{model, scenario::Violation};

/// Tries it on a copy of what a clean stop left on `sim`, whose log is sealed: not even its last batch can pass for torn.
pub(super) fn trial(sim: &Sim, options: &ShardOptions, prng: &mut Prng) -> Result<(), Violation> {
    let files: Vec<_> = sim.files().into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    let (path, bytes) = &files[prng.index(files.len())];
    // Beginnings are used more than ends.
    let part_bytes = bytes >> (2 * prng.below(4));
    let offset = prng.below(part_bytes.max(1));
    let (sound, rotten) = (copy(sim, prng), copy(sim, prng));
    assert!(rotten.flip_bit(path, offset), "the offset lies in the file");
    let expected = contents(&sound, options).map_err(Violation)?;
    match contents(&rotten, options) {
        Err(error) if checks::names(&error, path) => Ok(()),
        Ok(found) if found == expected => Ok(()),
        Err(error) => {
            Err(Violation(format!("a bit flipped in {} at {offset}, and the node says: {error}", path.display())))
        }
        Ok(_) => Err(Violation(format!("a bit flipped in {} at {offset}, and the node serves it", path.display()))),
    }
}

fn copy(sim: &Sim, prng: &mut Prng) -> Sim {
    let copy = Sim::new(prng.next_u64(), SimOptions { faults: Faults::default(), ..SimOptions::default() });
    for (path, _) in sim.files() {
        let bytes = sim.read_file(&path).expect("it was listed");
        copy.write_file(&path, &bytes).expect("the disk is large enough");
    }
    copy
}

/// Everything that the node serves from there, or its error.
fn contents(sim: &Sim, options: &ShardOptions) -> Result<Vec<(i64, model::State)>, String> {
    let start = machine::start::<SimEnv>(sim.env(), options.clone());
    let node = sim.block_on(start).map_err(|error| error.to_string())?;
    sim.block_on(machine::lead(&sim.env(), &node));
    let all = (0..GROUPS.len()).map(|at| sim.block_on(checks::everything(&node, at, 0))).collect::<Result<_, _>>();
    match &*node.end.borrow() {
        Some(Err(error)) => Err(error.to_string()),
        _ => all.map_err(|status| status.message.into_owned()),
    }
}
