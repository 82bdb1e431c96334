//! Versions of some changes in a row, and where what ended them has put them.

use plinth_base::Revision;

use crate::keys::epoch;

/// Versions of a window: 4 MiB of memory.
pub(super) const VERSIONS_MAX: usize = 256 << 10;

/// Nothing is known to have ended the version: it may be live.
const UNKNOWN: u64 = 0;

/// It is no part of the export.
const INVISIBLE: u64 = u64::MAX;

/// Where a version is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// In `live`, unless something ended it that is not known yet.
    Unknown,
    /// In this epoch of `past`.
    InEpoch(u64),
    /// Wherever it is, the export doesn't hold it.
    Invisible,
}

/// 16 bytes for a version: revisions count from the first one of the window.
#[derive(Clone, Copy, Debug)]
struct Version {
    main_offset: u32,
    sub: u32,
    end: u64,
}

/// The window.
#[derive(Debug)]
pub(super) struct Window {
    versions_max: usize,
    base: i64,
    /// Ascending.
    versions: Vec<Version>,
    /// How many have an end.
    ended: usize,
}

impl Window {
    pub(super) fn new(versions_max: usize) -> Self {
        Self { versions_max, base: 0, versions: Vec::new(), ended: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// Whether it is known of all versions what ended them.
    pub(super) fn is_resolved(&self) -> bool {
        self.ended == self.versions.len()
    }

    pub(super) fn clear(&mut self) {
        self.versions.clear();
        self.ended = 0;
    }

    /// The first version's revision.
    pub(super) fn first(&self) -> Option<Revision> {
        self.versions.first().map(|first| Revision { main: self.base, sub: first.sub })
    }

    /// Takes the next version; false if it doesn't fit.
    pub(super) fn push(&mut self, revision: Revision) -> bool {
        if self.versions.is_empty() {
            self.base = revision.main;
            // At once: growing would leave as much again behind. What is not used of it takes no memory.
            self.versions.reserve_exact(self.versions_max);
        }
        let Ok(main_offset) = u32::try_from(revision.main - self.base) else { return false };
        if self.versions.len() == self.versions_max {
            return false;
        }
        self.versions.push(Version { main_offset, sub: revision.sub, end: UNKNOWN });
        true
    }

    /// Takes note that `by` ended `version`, if that one is here.
    pub(super) fn end(&mut self, version: Revision, by: Revision, is_invisible: bool) {
        let Some(at) = self.place_of(version) else { return };
        let version = &mut self.versions[at];
        self.ended += usize::from(version.end == UNKNOWN);
        version.end = if is_invisible { INVISIBLE } else { 1 + epoch(by.main) };
    }

    /// Where a version of the window is.
    pub(super) fn end_of(&self, version: Revision) -> End {
        let at = self.place_of(version).expect("up to its last change, the window has what `log` has");
        match self.versions[at].end {
            UNKNOWN => End::Unknown,
            INVISIBLE => End::Invisible,
            end => End::InEpoch(end - 1),
        }
    }

    fn place_of(&self, version: Revision) -> Option<usize> {
        let main_offset = u32::try_from(version.main.checked_sub(self.base)?).ok()?;
        self.versions.binary_search_by_key(&(main_offset, version.sub), |it| (it.main_offset, it.sub)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64, sub: u32) -> Revision {
        Revision { main, sub }
    }

    #[test]
    fn a_window_knows_where_its_versions_are() {
        let mut window = Window::new(3);
        assert!(window.push(at(7, 1)) && window.push(at(7, 2)) && window.push(at(1 << 30, 0)));
        assert_eq!(window.first(), Some(at(7, 1)));
        window.end(at(7, 0), at(9, 0), false);
        window.end(at(6, 1), at(9, 0), false);
        window.end(at(7, 2), at(9, 0), false);
        window.end(at(7, 1), at(9, 1), true);
        assert!(!window.is_resolved());
        assert_eq!(window.end_of(at(7, 2)), End::InEpoch(epoch(9)));
        assert_eq!(window.end_of(at(7, 1)), End::Invisible);
        assert_eq!(window.end_of(at(1 << 30, 0)), End::Unknown);
        window.end(at(1 << 30, 0), at(1 << 40, 0), false);
        assert!(window.is_resolved());
        assert!(!window.push(at((1 << 30) + 1, 0)), "it is full");
        window.clear();
        assert!(window.is_empty() && window.push(at(1 << 30, 0)));
        assert!(!window.push(at(8 << 30, 0)), "too far from its first version");
    }
}
