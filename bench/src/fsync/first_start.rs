//! What plinth itself finds when a member starts for the first time: its own measurement, by the very code of the server, on the cores that the
//! server would choose.
//!
//! It differs from the cells here: a checkpoint writes beside it, and a thread that blocks has to be woken for each write by the executor, which is
//! woken when it is done.

use std::path::Path;

use plinth_env::SyncMethod;
use plinth_uring::{
    SyncMedians,
    cores::{self, Available},
    measure_sync_methods,
};
use serde::{Deserialize, Serialize};

use crate::stats::median;

/// The medians of plinth's methods, or why there are none.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstStart {
    /// In µs, of each method.
    Medians {
        /// One write with RWF_DSYNC on the ring.
        write_dsync_us: f64,
        /// A write, and an fdatasync that is linked to it.
        linked_sync_us: f64,
        /// RWF_DSYNC on a thread that blocks.
        thread_dsync_us: f64,
    },
    /// What a first start would log.
    Trouble(String),
}

impl FirstStart {
    /// Starts so many times in `dir`, and takes the median of each method.
    #[must_use]
    pub fn measure(dir: &Path, times: usize) -> Self {
        let mut found = Vec::new();
        for _ in 0..times {
            match measure_once(dir) {
                Ok(medians) => found.push(medians),
                Err(trouble) => return Self::Trouble(trouble),
            }
        }
        let of = |ns: fn(&SyncMedians) -> u64| {
            let all: Vec<f64> = found.iter().map(|medians| ns(medians) as f64 / 1000.0).collect();
            median(&all).unwrap_or(f64::NAN)
        };
        Self::Medians {
            write_dsync_us: of(|medians| medians.write_dsync_ns),
            linked_sync_us: of(|medians| medians.linked_sync_ns),
            thread_dsync_us: of(|medians| medians.thread_dsync_ns),
        }
    }

    /// The name that --wal-sync-method has for what plinth would choose.
    #[must_use]
    pub fn choice(&self) -> Option<&'static str> {
        let Self::Medians { write_dsync_us, linked_sync_us, thread_dsync_us } = self else { return None };
        let ns = |us: &f64| (us * 1000.0) as u64;
        let medians = SyncMedians {
            write_dsync_ns: ns(write_dsync_us),
            linked_sync_ns: ns(linked_sync_us),
            thread_dsync_ns: ns(thread_dsync_us),
        };
        Some(match medians.choose() {
            SyncMethod::WriteDsync => "write-dsync",
            SyncMethod::LinkedSync => "linked-sync",
            SyncMethod::ThreadDsync => "thread-dsync",
        })
    }
}

fn measure_once(dir: &Path) -> Result<SyncMedians, String> {
    let available = Available::of_this_process().map_err(|error| error.to_string())?;
    let cores = cores::choose(None, &available).map_err(|error| error.to_string())?;
    measure_sync_methods(&cores, dir, dir).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_plinths_own() {
        let of = |write_dsync_us, linked_sync_us, thread_dsync_us| {
            FirstStart::Medians { write_dsync_us, linked_sync_us, thread_dsync_us }.choice()
        };
        assert_eq!(of(100.0, 99.0, 96.0), Some("write-dsync"), "it stays unless another one is clearly faster");
        assert_eq!(of(100.0, 90.0, 94.0), Some("linked-sync"));
        assert_eq!(of(100.0, 90.0, 80.0), Some("thread-dsync"));
        assert_eq!(FirstStart::Trouble("no io_uring".to_owned()).choice(), None);
    }

    #[test]
    fn a_directory_that_is_not_there_is_trouble_and_no_panic() {
        assert!(matches!(FirstStart::measure(Path::new("/nothing/here"), 1), FirstStart::Trouble(_)));
    }
}
