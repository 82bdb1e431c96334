//! Two servers in one scenario after the other.

use std::net::SocketAddr;

use super::{
    Comparison,
    homes::Homes,
    in_pairs,
    scenario::Scenario,
    sides::Side,
    turn::{self, Start, Target},
};
use crate::{failure::Failure, lab::Lab};

/// Who meets how.
#[derive(Debug)]
pub struct Contest<'a> {
    /// Where.
    pub lab: &'a Lab,
    /// Who.
    pub sides: [Side; 2],
    /// Of each.
    pub members: usize,
    /// Which of them the load talks to.
    pub target: Target,
    homes: Homes,
}

impl<'a> Contest<'a> {
    /// Nothing is filled yet.
    #[must_use]
    pub fn new(lab: &'a Lab, sides: [Side; 2], members: usize, target: Target) -> Self {
        Self { lab, sides, members, target, homes: Homes::default() }
    }

    /// All turns of a scenario.
    pub fn run(&mut self, scenario: &Scenario) -> Result<Comparison, Failure> {
        let Self { lab, sides, members, target, homes } = self;
        let mut filled = Vec::with_capacity(sides.len());
        for side in sides.iter() {
            filled.push(homes.filled(lab, side, *members, scenario)?);
        }
        let wants_bare = *members > 1 && scenario.is_put_by_one()?;
        let pairs = in_pairs(lab, &scenario.name, |number| {
            let program = &sides[number].program;
            let flags = scenario.flags(program.kind);
            let start = Start { program, filled: &filled[number], flags, target: *target, wants_bare };
            turn::take(lab, start, |endpoints: &[SocketAddr]| scenario.plan(endpoints, &lab.method))
        })?;
        let names = [sides[0].name.as_str(), sides[1].name.as_str()];
        Ok(Comparison::of(&scenario.name, &scenario.description, names, &pairs))
    }
}
