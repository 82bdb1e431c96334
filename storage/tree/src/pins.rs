//! What is pinned, and how old pages are: which of those that are freed something may still reach.
//!
//! A pin that is held for long, for a snapshot or a backup, reaches nothing that was handed out after it. Were all that is freed meanwhile kept for it, the
//! file would grow by what is written in that time; so it is known of each page that is younger than a pin for which generation it was handed out.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use crate::bitmap::Bitmap;

/// Keeps the pages that generation `generation`, and a root that was published behind it, reach from being handed out.
#[derive(Clone, Debug)]
pub(crate) struct Pin(Arc<u64>);

impl Pin {
    pub fn generation(&self) -> u64 {
        *self.0
    }
}

/// All pins that are held, by whatever thread.
pub(crate) struct Pins {
    current: Pin,
    older: VecDeque<(u64, Weak<u64>)>,
}

impl Pins {
    pub fn new(generation: u64) -> Self {
        Self { current: Pin(Arc::new(generation)), older: VecDeque::new() }
    }

    /// A pin of the newest generation.
    pub fn pin(&self) -> Pin {
        self.current.clone()
    }

    /// Roots published from now on pin `generation`.
    pub fn advance(&mut self, generation: u64) {
        let old = std::mem::replace(&mut self.current, Pin(Arc::new(generation)));
        self.older.push_back((*old.0, Arc::downgrade(&old.0)));
    }

    /// All generations that are pinned, oldest first.
    pub fn held(&mut self) -> Vec<u64> {
        self.older.retain(|(_, token)| token.strong_count() > 0);
        self.older.iter().map(|(generation, _)| *generation).chain([*self.current.0]).collect()
    }
}

/// Whether what has pinned `pin` may reach pages that were handed out for generation `born`. One generation more than its own: a root that was published
/// behind a checkpoint holds nodes in memory that the next one writes.
pub(crate) fn may_reach(pin: u64, born: u64) -> bool {
    born <= pin + 1
}

/// For which generation pages were handed out, as far as it makes a difference to a pin.
#[derive(Default)]
pub(crate) struct Births {
    /// The newest generation whose pages are in it, and these. Between the generations of one of them nothing is pinned, so all of them may pass for the
    /// newest. Oldest first; what is in none counts as old.
    known: Vec<(u64, Bitmap)>,
}

impl Births {
    /// Pages are handed out for `generation` from now on.
    pub fn begin(&mut self, generation: u64, pages: u64, held: &[u64]) {
        let mut kept: Vec<(u64, Bitmap)> = Vec::new();
        for (born, bitmap) in std::mem::take(&mut self.known) {
            let before = kept.last().map_or(0, |(before, _)| *before);
            if held.iter().any(|pin| may_reach(*pin, before) && !may_reach(*pin, born)) {
                kept.push((born, bitmap));
            } else if let Some((before, all)) = kept.last_mut() {
                (*before, *all) = (born, bitmap.plus(all));
            }
            // Else no pin is older than these.
        }
        kept.push((generation, Bitmap::new(pages)));
        self.known = kept;
    }

    /// The file has become longer: `pages` in all.
    pub fn grow(&mut self, pages: u64) {
        self.known.iter_mut().for_each(|(_, bitmap)| bitmap.grow(pages));
    }

    /// `page` is handed out.
    pub fn note(&mut self, page: u64) {
        if let Some((_, bitmap)) = self.known.last_mut() {
            bitmap.set(page);
        }
    }

    /// `page` is freed: for which generation it was handed out. Forgotten from now on.
    pub fn take(&mut self, page: u64) -> u64 {
        let Some((born, bitmap)) = self.known.iter_mut().rev().find(|(_, bitmap)| bitmap.get(page)) else { return 0 };
        bitmap.clear(page);
        *born
    }
}
