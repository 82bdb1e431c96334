//! The filled directories of plinth and etcd.

use std::path::{Path, PathBuf};

use super::Lab;
use crate::{failure::Failure, load::Shape, server::Kind};

/// The filled directories of both.
#[derive(Debug)]
pub struct Filled {
    plinth: PathBuf,
    etcd: PathBuf,
}

impl Filled {
    /// Fills both.
    pub fn new(lab: &Lab) -> Result<Self, Failure> {
        Self::in_rounds(lab, "", lab.method.shape, 1)
    }

    /// Fills both with the keys of `shape`, each written `rounds` times. Directories with another `name` stay.
    pub fn in_rounds(lab: &Lab, name: &str, shape: Shape, rounds: u64) -> Result<Self, Failure> {
        eprintln!("filling {} keys of {} bytes, {rounds} times", shape.keys, shape.value_bytes);
        Ok(Self {
            plinth: lab.fill_in_rounds(&format!("plinth{name}"), &lab.plinth, shape, rounds)?,
            etcd: lab.fill_in_rounds(&format!("etcd{name}"), &lab.etcd()?, shape, rounds)?,
        })
    }

    /// That of one of them.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Plinth => &self.plinth,
            Kind::Etcd => &self.etcd,
        }
    }
}
