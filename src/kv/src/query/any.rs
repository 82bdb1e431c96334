//! Whether anything exists at a revision.

use plinth_tree::{Missing, PageSource, View};

use super::Visible;
use crate::{Budget, bounds::successor};

/// The question under way: of a revision that is not the newest one it may take a walk over all keys that were deleted since or created later.
#[derive(Debug)]
pub struct AnyKey {
    revision: i64,
    /// No key below this one exists.
    resume: Vec<u8>,
}

impl AnyKey {
    /// At `revision`.
    #[must_use]
    pub fn at(revision: i64) -> Self {
        Self { revision, resume: Vec::new() }
    }

    /// Does one slice. `view` is the store at its revision `current`. `None` when the budget ran out.
    ///
    /// # Errors
    /// Missing pages: load them and call again.
    pub fn run<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        current: i64,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Missing> {
        let mut keys = Visible::at(view.passing(), self.revision, current);
        let mut found = keys.seek(&self.resume)?;
        while found {
            if !budget.spend() {
                return Ok(None);
            }
            if keys.record()?.is_some() {
                return Ok(Some(true));
            }
            self.resume = successor(keys.key()?);
            found = keys.next()?;
        }
        Ok(Some(false))
    }
}
