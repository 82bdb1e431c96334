//! Learners that were to become voters.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What became of the requests that this member was asked to promote somebody by.
#[derive(Default, Debug)]
pub struct Promotions(Mutex<PromotionFigures>);

/// The same at one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PromotionFigures {
    /// They vote now.
    pub succeeded: u64,
    /// They don't, by what the client was told.
    pub failed: BTreeMap<String, u64>,
}

impl Promotions {
    fn figures_mut(&self) -> MutexGuard<'_, PromotionFigures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; an error is what the client is told.
    pub(crate) fn count(&self, outcome: Result<(), &str>) {
        let mut figures = self.figures_mut();
        match outcome {
            Ok(()) => figures.succeeded += 1,
            Err(told) => *figures.failed.entry(told.to_owned()).or_default() += 1,
        }
    }

    /// As they are now.
    #[must_use]
    pub fn figures(&self) -> PromotionFigures {
        self.figures_mut().clone()
    }
}
