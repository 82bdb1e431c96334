//! Which two servers are compared.

use std::path::PathBuf;

use crate::{
    failure::Failure,
    lab::Lab,
    server::{Kind, Program},
};

/// One of the two.
#[derive(Clone, Debug)]
pub struct Side {
    /// As tables call it.
    pub name: String,
    /// What is started.
    pub program: Program,
}

/// The servers at these paths; without one, the lab's plinth is A and its etcd is B.
pub fn choose(lab: &Lab, a: Option<PathBuf>, b: Option<PathBuf>) -> Result<[Side; 2], Failure> {
    let a = match a {
        Some(path) => Program::recognised(path)?,
        None => {
            lab.plinth.expect_there()?;
            lab.plinth.clone()
        }
    };
    let b = b.map_or_else(|| lab.etcd(), Program::recognised)?;
    Ok(named(a, b))
}

/// Two builds of the same server are told apart by a letter.
fn named(a: Program, b: Program) -> [Side; 2] {
    let alike = a.kind == b.kind;
    let name = |kind: Kind, letter| if alike { format!("{} {letter}", kind.name()) } else { kind.name().to_owned() };
    [Side { name: name(a.kind, 'A'), program: a }, Side { name: name(b.kind, 'B'), program: b }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_builds_of_a_server_have_a_letter() {
        let program = |kind| Program { kind, path: PathBuf::new() };
        let names = |a, b| named(program(a), program(b)).map(|side| side.name);
        assert_eq!(names(Kind::Plinth, Kind::Etcd), ["plinth", "etcd"]);
        assert_eq!(names(Kind::Plinth, Kind::Plinth), ["plinth A", "plinth B"]);
    }
}
