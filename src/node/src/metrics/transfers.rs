//! Snapshots on their way to or from other members.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plinth_base::{
    MemberId,
    metrics::{Histogram, HistogramSnapshot, TRANSFER_NS},
};

/// All of one.
const WHOLE_PPM: u32 = 1_000_000;

/// In one direction.
#[derive(Default, Debug)]
pub struct Transfers(Mutex<BTreeMap<MemberId, Counts>>);

#[derive(Debug)]
struct Counts {
    succeeded: u64,
    failed: u64,
    under_way: u64,
    done_ppm: u32,
    took: Histogram,
}

/// To or from one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferFigures {
    /// The peer.
    pub peer: MemberId,
    /// Those that were taken into use.
    pub succeeded: u64,
    /// Those that weren't.
    pub failed: u64,
    /// Those that have neither ended so nor so.
    pub under_way: u64,
    /// How much of the one under way, or of the last one, was there, in millionths.
    pub done_ppm: u32,
    /// How long the first ones took: nanoseconds, in [`TRANSFER_NS`].
    pub took: HistogramSnapshot,
}

impl Transfers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<MemberId, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One begins.
    pub(crate) fn begin(&self, peer: MemberId) {
        let took = || Histogram::new(TRANSFER_NS);
        let new = || Counts { succeeded: 0, failed: 0, under_way: 0, done_ppm: 0, took: took() };
        let mut all = self.all();
        let counts = all.entry(peer).or_insert_with(new);
        counts.under_way += 1;
        counts.done_ppm = 0;
    }

    /// So much of the one under way is there.
    pub(crate) fn note(&self, peer: MemberId, done_ppm: u32) {
        if let Some(counts) = self.all().get_mut(&peer) {
            counts.done_ppm = done_ppm;
        }
    }

    /// One that had begun ends; `took` is how long it took, if it succeeded.
    pub(crate) fn end(&self, peer: MemberId, took: Option<Duration>) {
        let mut all = self.all();
        let Some(counts) = all.get_mut(&peer) else { return };
        counts.under_way = counts.under_way.saturating_sub(1);
        match took {
            Some(took) => {
                counts.succeeded += 1;
                counts.done_ppm = WHOLE_PPM;
                counts.took.observe_duration(took);
            }
            None => counts.failed += 1,
        }
    }

    /// As they are now, by ascending id of the peer.
    #[must_use]
    pub fn figures(&self) -> Vec<TransferFigures> {
        let figures = |(peer, counts): (&MemberId, &Counts)| TransferFigures {
            peer: *peer,
            succeeded: counts.succeeded,
            failed: counts.failed,
            under_way: counts.under_way,
            done_ppm: counts.done_ppm,
            took: counts.took.snapshot(),
        };
        self.all().iter().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_under_way_until_it_ends_one_way_or_the_other() {
        let transfers = Transfers::default();
        let peer = MemberId(7);
        let counts = |transfers: &Transfers| {
            let figures = transfers.figures().remove(0);
            (figures.under_way, figures.succeeded, figures.failed, figures.took.count())
        };
        transfers.end(peer, None);
        assert!(transfers.figures().is_empty(), "none had begun");
        transfers.begin(peer);
        transfers.begin(peer);
        assert_eq!(counts(&transfers), (2, 0, 0, 0));
        transfers.end(peer, None);
        transfers.end(peer, Some(Duration::from_secs(1)));
        assert_eq!(counts(&transfers), (0, 1, 1, 1));
    }
}
