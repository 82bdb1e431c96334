//! The compacted revision as clients see it: it grows, and never goes back.

/// What is known of it, and what may be so.
#[derive(Clone, Debug)]
pub struct Compactions {
    /// It is at least this; -1 before the first compaction.
    known: i64,
    /// Compactions that may have been carried out since the last check.
    attempts: Vec<i64>,
}

impl Default for Compactions {
    fn default() -> Self {
        Self { known: -1, attempts: Vec::new() }
    }
}

impl Compactions {
    /// It is at least this: a call that begins now must not see anything below.
    #[must_use]
    pub fn known(&self) -> i64 {
        self.known
    }

    /// It is known to be at least `revision`.
    pub fn learn(&mut self, revision: i64) {
        self.known = self.known.max(revision);
    }

    /// A compaction that may have been carried out.
    pub fn attempted(&mut self, revision: i64) {
        self.attempts.push(revision);
    }

    /// Whether it can be at least `revision` by now, having been `before` in the beginning.
    #[must_use]
    pub fn may_have_reached(&self, revision: i64, before: i64) -> bool {
        before >= revision || self.attempts.iter().any(|attempt| *attempt >= revision)
    }

    /// The restarted store says that it is compacted to `found`; before this life it was `before`. What wasn't carried out by then never will be.
    pub fn close(&mut self, before: i64, found: i64) -> Result<(), String> {
        if found < self.known {
            return Err(format!("revision {} was compacted, the store says {found}", self.known));
        }
        if found != before && !self.attempts.contains(&found) {
            return Err(format!("the store is compacted to {found}, which nobody asked for"));
        }
        (self.known, self.attempts) = (found, Vec::new());
        Ok(())
    }
}
