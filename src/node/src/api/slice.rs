//! How a read on the executor of its connection looks at a published root: in slices, and with the pages that it misses loaded.

use plinth_env::{Env, PageError};
use plinth_kv::Budget;
use plinth_rpc::{Code, Status};
use plinth_tree::{Missing, View};

use super::Api;
use crate::published::Root;

/// Entries that a read visits before other tasks of the executor get their turn.
pub(super) const READ_SLICE_ENTRIES: u32 = 1024;

impl<E: Env> Api<E> {
    /// One slice of a read at `root`: calls `step`, each time with a whole budget, until no page is missing. Who comes back for another slice lets
    /// others go first, with [`Api::pause`].
    ///
    /// # Errors
    /// A page that can't be read.
    pub(super) async fn slice<T>(
        &self,
        root: &Root<E::Pages>,
        mut step: impl FnMut(View<'_, E::Pages>, &mut Budget) -> Result<T, Missing>,
    ) -> Result<T, Status> {
        loop {
            let missing = match step(root.snapshot.view(), &mut Budget::new(READ_SLICE_ENTRIES)) {
                Ok(done) => return Ok(done),
                Err(missing) => missing,
            };
            self.load(root, missing).await?;
        }
    }

    /// Loads what a walk over `root` missed. The walk has to go on at the same root: its pages are the ones that were loaded.
    ///
    /// # Errors
    /// A page that can't be read.
    pub(super) async fn load(&self, root: &Root<E::Pages>, missing: Missing) -> Result<(), Status> {
        self.executor.env().load_pages(root.snapshot.pages(), missing.wants).await.map_err(unreadable)
    }

    /// Between two slices: others go first.
    pub(super) async fn pause(&self) {
        self.executor.env().yield_now().await;
    }
}

/// A page that can't be read is told to the client and, by the environment, to the operator.
#[expect(clippy::needless_pass_by_value, reason = "it stands behind map_err")]
fn unreadable(error: PageError) -> Status {
    plinth_base::log_error!("a page can't be read", "error" => plinth_base::log::Value::display(&error));
    Status::new(Code::DataLoss, format!("etcdserver: {error}"))
}
