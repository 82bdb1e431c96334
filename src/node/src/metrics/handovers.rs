//! Leadership that this member gave away, by reason.

use plinth_base::metrics::Counter;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// A client asked for it.
    Asked,
    /// The member stops.
    Stop,
    /// The log's device was stuck.
    Stall,
    /// The member was removed.
    Removed,
}

impl Handover {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Asked, Self::Stop, Self::Stall, Self::Removed];

    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Stop => "stop",
            Self::Stall => "stall",
            Self::Removed => "removed",
        }
    }
}

/// How often.
#[derive(Default, Debug)]
pub struct Handovers([Counter; Handover::ALL.len()]);

impl Handovers {
    /// For one reason.
    #[must_use]
    pub fn of(&self, why: Handover) -> &Counter {
        &self.0[why as usize]
    }

    /// For all of them.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Handover::ALL.into_iter().map(|why| (why.name(), self.of(why).get()))
    }
}
