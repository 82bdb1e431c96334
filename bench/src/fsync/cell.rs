//! What is measured: a cell is one method in one situation. A plan is a list of groups; the cells of a group are measured in turns.

use serde::{Deserialize, Serialize};

use super::method::Method;

/// Every write of the comparison of methods, and of most else.
pub const BLOCK: usize = 4096;
const SIZES: [usize; 5] = [512, BLOCK, 16 << 10, 64 << 10, 256 << 10];
const DEPTHS: [usize; 4] = [1, 2, 4, 8];

/// One method in one situation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// How the writes become durable.
    pub method: Method,
    /// Length of each, in bytes.
    pub bytes: usize,
    /// Writes under way at a time.
    pub depth: usize,
    /// What they go to.
    pub file: FileKind,
    /// What else goes to the device meanwhile.
    pub neighbour: Neighbour,
}

/// What the blocks of a file were before they are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Written before: no write changes anything but data.
    Recycled,
    /// Reserved with fallocate, never written: a write also marks its blocks as written.
    Preallocated,
    /// Not there: a write also takes new blocks and makes the file longer.
    Growing,
}

/// What else goes to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Neighbour {
    /// Nothing of ours.
    None,
    /// Someone writes in sequence, without flushes, as fast as it goes.
    Writes,
    /// Someone reads at random, as fast as it goes.
    Reads,
}

impl Cell {
    /// 4 KiB at depth 1 to a recycled file, with the device to itself.
    #[must_use]
    pub fn plain(method: Method) -> Self {
        Self { method, bytes: BLOCK, depth: 1, file: FileKind::Recycled, neighbour: Neighbour::None }
    }
}

impl FileKind {
    /// As in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Recycled => "recycled",
            Self::Preallocated => "preallocated",
            Self::Growing => "growing",
        }
    }
}

impl Neighbour {
    /// As in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Writes => "writes",
            Self::Reads => "reads",
        }
    }
}

/// Every method at 4 KiB and depth 1.
#[must_use]
pub fn methods() -> Vec<Cell> {
    Method::ALL.map(Cell::plain).to_vec()
}

/// The best method in all other situations that matter to a log: the ends of the sizes and depths, both other files, both neighbours.
#[must_use]
pub fn situations(best: Method) -> Vec<Cell> {
    let plain = Cell::plain(best);
    vec![
        Cell { bytes: SIZES[0], ..plain },
        Cell { bytes: SIZES[SIZES.len() - 1], ..plain },
        Cell { depth: DEPTHS[DEPTHS.len() - 1], ..plain },
        Cell { file: FileKind::Preallocated, ..plain },
        Cell { file: FileKind::Growing, ..plain },
        Cell { neighbour: Neighbour::Writes, ..plain },
        Cell { neighbour: Neighbour::Reads, ..plain },
    ]
}

/// Every method in every situation, a group for each situation.
#[must_use]
pub fn everything() -> Vec<Vec<Cell>> {
    let mut groups = Vec::new();
    for neighbour in [Neighbour::None, Neighbour::Writes, Neighbour::Reads] {
        for file in [FileKind::Recycled, FileKind::Preallocated, FileKind::Growing] {
            for bytes in SIZES {
                for depth in DEPTHS {
                    groups.push(Method::ALL.map(|method| Cell { method, bytes, depth, file, neighbour }).to_vec());
                }
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_dozen_cells_and_the_second_way_to_rwf_dsync() {
        let cells = [methods(), situations(Method::RingDsync)].concat();
        assert_eq!(cells.len(), 13);
        assert!(cells.iter().enumerate().all(|(at, cell)| !cells[..at].contains(cell)), "none twice");
    }

    #[test]
    fn everything_is_every_combination_once() {
        let groups = everything();
        assert_eq!((groups.len(), groups.concat().len()), (180, 1080));
        let plain = &groups[DEPTHS.len()];
        assert_eq!(*plain, methods(), "the comparison of methods is one of its groups");
    }
}
