//! How the log reaches the device: what the flag says, else what was chosen at the first start, else what is measured now.

use plinth_base::log_info;
use plinth_env::SyncMethod;
use plinth_uring::{MeasureError, SyncMedians};

use crate::{config::sync_method_name, data_dir::DataDir, start_error::StartError};

/// What the first start decides, with the medians behind it if it measured.
pub(super) fn decide(
    flag: Option<SyncMethod>,
    dir: &DataDir,
    cores: &[usize],
) -> Result<(SyncMethod, Option<SyncMedians>), StartError> {
    if let Some(given) = flag {
        return Ok((given, None));
    }
    let (log_dir, tree_dir) = dir.measuring_places();
    match plinth_uring::measure_sync_methods(cores, log_dir, tree_dir) {
        Ok(medians) => {
            let chosen = medians.choose();
            log_info!(
                "measured how the log reaches the device fastest: the choice stays with the data directory",
                "wal-sync-method" => sync_method_name(chosen),
                "write-dsync-us" => medians.write_dsync_ns / 1000,
                "linked-sync-us" => medians.linked_sync_ns / 1000,
                "thread-dsync-us" => medians.thread_dsync_ns / 1000
            );
            Ok((chosen, Some(medians)))
        }
        Err(MeasureError::Start(error)) => Err(StartError::failed(error.to_string())),
        // A device that can't be written to says so again where it matters.
        Err(error @ (MeasureError::Io(_) | MeasureError::TooSlow)) => {
            log_info!(
                "could not measure how the log reaches the device fastest",
                "wal-sync-method" => sync_method_name(SyncMethod::WriteDsync),
                "reason" => plinth_base::log::Value::display(&error)
            );
            Ok((SyncMethod::WriteDsync, None))
        }
    }
}
