//! Filled directories. Every turn gets a copy; scenarios that begin alike share the original.

use super::{Scenario, Side};
use crate::{failure::Failure, lab::Lab, load::Shape, server::Home};

/// What is filled so far.
#[derive(Default, Debug)]
pub struct Homes(Vec<(Content, Home)>);

/// What a filled directory depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Content {
    side: String,
    members: usize,
    flags: Vec<String>,
    shape: Shape,
    rounds: u64,
}

impl Homes {
    /// What a scenario begins with; filled now if no other one began so.
    pub fn filled(&mut self, lab: &Lab, side: &Side, members: usize, scenario: &Scenario) -> Result<Home, Failure> {
        let content = Content {
            side: side.name.clone(),
            members,
            flags: scenario.flags(side.program.kind).to_vec(),
            shape: scenario.fill_shape(),
            rounds: scenario.fill_rounds(),
        };
        if let Some((_, home)) = self.0.iter().find(|(known, _)| *known == content) {
            return Ok(home.clone());
        }
        let Content { shape, rounds, flags, .. } = &content;
        let times = if *rounds == 1 { String::new() } else { format!(", {rounds} times") };
        eprintln!("filling {} with {} keys of {} bytes{times}", side.name, shape.keys, shape.value_bytes);
        let dir = lab.path(&format!("filled-{}", self.0.len()))?;
        let home = lab.fill_members(dir, &side.program, members, flags, (*shape, *rounds))?;
        self.0.push((content, home.clone()));
        Ok(home)
    }
}
