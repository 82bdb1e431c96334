//! The conditions of a transaction.

use plinth_tree::{Missing, PageSource, View};

use crate::{Budget, Compare, CompareResult, CompareTarget, Record, bounds::successor, query::Visible};

/// One condition being evaluated: its range may be long, so it goes on over several slices.
#[derive(Default, Debug)]
pub(crate) struct CompareRun {
    /// The first key not looked at yet, once there was one.
    resume: Option<Vec<u8>>,
}

impl CompareRun {
    /// Whether the condition holds, or `None` when the budget ran out.
    pub(crate) fn step<P: PageSource>(
        &mut self,
        view: View<'_, P>,
        compare: &Compare,
        budget: &mut Budget,
    ) -> Result<Option<bool>, Missing> {
        let mut keys = Visible::latest(view);
        let mut found = keys.seek(self.resume.as_deref().unwrap_or(&compare.range.key))?;
        while found && compare.range.reaches(keys.key()?) {
            if !budget.spend() {
                return Ok(None);
            }
            let record = keys.record()?.expect("at the latest revision every key is visible");
            if !compare.holds(&record)? {
                return Ok(Some(false));
            }
            self.resume = Some(successor(keys.key()?));
            if compare.range.is_single() {
                break;
            }
            found = keys.next()?;
        }
        Ok(Some(self.resume.is_some() || compare.holds_for_nothing()))
    }
}

impl Compare {
    fn holds(&self, record: &Record<'_>) -> Result<bool, Missing> {
        let meta = record.meta();
        let order = match &self.target {
            CompareTarget::Version(given) => meta.version.cmp(given),
            CompareTarget::Create(given) => meta.create.cmp(given),
            CompareTarget::Mod(given) => meta.modified.main.cmp(given),
            CompareTarget::Lease(given) => meta.lease.cmp(given),
            CompareTarget::Value(given) => record.value()?.cmp(given),
        };
        Ok(self.result.admits(order))
    }

    /// A range without keys: numbers are compared as if they were 0, and no value satisfies anything.
    fn holds_for_nothing(&self) -> bool {
        match self.target {
            CompareTarget::Value(_) => false,
            CompareTarget::Version(given)
            | CompareTarget::Create(given)
            | CompareTarget::Mod(given)
            | CompareTarget::Lease(given) => self.result.admits(0.cmp(&given)),
        }
    }
}

impl CompareResult {
    /// `order` is that of the stored to the given.
    fn admits(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::Less => order.is_lt(),
            Self::NotEqual => order.is_ne(),
            Self::Unknown => true,
        }
    }
}
