//! All scenarios, by name.

mod clients;
mod cluster;
mod disk;
pub mod node;
mod stalls;

use crate::scenario::Scenario;

pub use cluster::ClusterScenario;
pub use disk::DiskScenario;
pub use node::NodeScenario;
pub use stalls::StallsScenario;

/// Every scenario that the command line knows.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    vec![Box::new(DiskScenario), Box::new(NodeScenario), Box::new(ClusterScenario), Box::new(StallsScenario)]
}
