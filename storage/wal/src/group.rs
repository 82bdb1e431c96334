//! What the log knows of each group: where its log begins and ends, its hard state, and where its entries lie.
//!
//! Invariant: `durable` and `spans` describe batches that are durable; `tail` and `terms` include what is only appended.
//! Spans are sorted by index and never overlap: a group's live entries from `spans[k].first` up to `spans[k + 1].first` lie
//! in one segment, contiguous, from `spans[k].place` on.

use std::collections::VecDeque;

use plinth_base::{GroupId, LogIndex, MemberId, Term};

use crate::format::BLOCK;

/// What raft must not forget, beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// The member voted for in that term.
    pub vote: Option<MemberId>,
    /// The highest index known to be committed; may be behind.
    pub commit: LogIndex,
    /// Recovery cut off a batch that may have been durable, and acknowledged, before it rotted. Only whoever has others to ask can say that nothing is missing.
    pub is_doubtful: bool,
}

/// An entry's place in a group's log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
}

/// A group's log at one point of the record stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct GroupState {
    /// Term, vote and commit.
    pub hard_state: HardState,
    /// The entry behind which the log begins: nothing up to here can be read.
    pub start: Position,
    /// The last entry; equal to `start` if there is none.
    pub last: Position,
}

/// Where a batch begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    /// The segment's sequence.
    pub(crate) segment: u64,
    /// The batch's offset in blocks.
    pub(crate) block: u32,
}

/// Entries from `first` on, up to the next span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) first: LogIndex,
    pub(crate) place: Place,
}

/// How far apart spans of one group are kept when its entries simply follow each other: a read skips at most this
/// much, and a segment's index has at most segment / this spans a group plus one for each replaced tail.
const SPAN_BLOCKS: u32 = (64 << 10) / BLOCK as u32;

/// What one batch does to one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    pub(crate) group: GroupId,
    /// The group's state behind the batch.
    pub(crate) state: GroupState,
    /// The lowest index of an entry that lies whole in this batch.
    pub(crate) low: Option<LogIndex>,
    /// The entry whose last part lies in this batch.
    pub(crate) split: Option<LogIndex>,
    /// The log started anew.
    pub(crate) restarted: bool,
    /// The batch holds a hard state.
    pub(crate) hard_state: bool,
}

/// What one batch does to the groups; empty for most of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Effects(Vec<Effect>);

impl Effects {
    fn touch(&mut self, group: GroupId, state: GroupState) -> &mut Effect {
        let at = self.0.iter().position(|effect| effect.group == group).unwrap_or_else(|| {
            self.0.push(Effect { group, state, low: None, split: None, restarted: false, hard_state: false });
            self.0.len() - 1
        });
        let effect = &mut self.0[at];
        effect.state = state;
        effect
    }

    /// The last part, or the whole, of entry `state.last` is in the batch.
    pub(crate) fn note_entry(&mut self, group: GroupId, state: GroupState, split: bool) {
        let effect = self.touch(group, state);
        if split {
            effect.split = Some(state.last.index);
        } else {
            effect.low = Some(effect.low.map_or(state.last.index, |low| low.min(state.last.index)));
        }
    }

    pub(crate) fn note_hard_state(&mut self, group: GroupId, state: GroupState) {
        self.touch(group, state).hard_state = true;
    }

    pub(crate) fn note_start(&mut self, group: GroupId, state: GroupState) {
        let effect = self.touch(group, state);
        *effect = Effect { low: None, split: None, restarted: true, ..*effect };
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.0.iter()
    }
}

impl Effect {
    /// The lowest entry that this batch replaces or adds.
    pub(crate) fn lowest(&self) -> Option<LogIndex> {
        self.low.into_iter().chain(self.split).min()
    }
}

/// One group of the log.
#[derive(Clone, Default, Debug)]
pub(crate) struct Group {
    /// Behind everything appended.
    pub(crate) tail: GroupState,
    /// Behind the last durable batch.
    pub(crate) durable: GroupState,
    /// A durable batch knows the group.
    pub(crate) is_durable: bool,
    /// Entries up to here are no longer needed.
    pub(crate) released: LogIndex,
    pub(crate) spans: VecDeque<Span>,
    /// The first index of each run of entries of one term, behind everything appended.
    terms: VecDeque<Position>,
    /// Entries that change the members, behind what was released.
    changes: VecDeque<LogIndex>,
}

impl Group {
    /// A group as a segment's state record has it: what its log held before is not in this log any more.
    pub(crate) fn from_state(state: GroupState) -> Self {
        let mut group = Self { tail: state, is_durable: true, ..Self::default() };
        group.restart(state.last);
        group.durable = group.tail;
        group
    }

    /// What was cut off may have been durable.
    pub(crate) fn doubt_if(&mut self, is_doubtful: bool) {
        self.tail.hard_state.is_doubtful |= is_doubtful;
        self.durable.hard_state.is_doubtful |= is_doubtful;
    }

    /// The log begins behind `start`.
    pub(crate) fn restart(&mut self, start: Position) {
        self.tail.start = start;
        self.tail.last = start;
        self.terms.clear();
        self.changes.clear();
        self.terms.push_back(start);
    }

    /// `entry` becomes the last one, in place of what had its index or a higher one.
    pub(crate) fn push_entry(&mut self, entry: Position) {
        assert!(self.tail.start.index < entry.index && entry.index <= self.tail.last.index.next(), "no gaps in a log");
        while self.terms.back().is_some_and(|run| run.index >= entry.index) {
            self.terms.pop_back();
        }
        if self.terms.back().is_none_or(|run| run.term != entry.term) {
            self.terms.push_back(entry);
        }
        while self.changes.back().is_some_and(|change| *change >= entry.index) {
            self.changes.pop_back();
        }
        self.tail.last = entry;
    }

    /// The last entry changes the members.
    pub(crate) fn note_change(&mut self) {
        self.changes.push_back(self.tail.last.index);
    }

    /// Entries that change the members.
    pub(crate) fn changes(&self) -> impl Iterator<Item = LogIndex> + '_ {
        self.changes.iter().copied()
    }

    /// The term of an entry, appended or durable, or of the one before the first.
    pub(crate) fn term_of(&self, index: LogIndex) -> Option<Term> {
        if index > self.tail.last.index {
            return None;
        }
        let run = self.terms.partition_point(|run| run.index <= index).checked_sub(1)?;
        Some(self.terms[run].term)
    }

    /// The first index of each run of entries of one term; the first run begins where the log does.
    pub(crate) fn term_runs(&self) -> impl Iterator<Item = Position> + '_ {
        self.terms.iter().copied()
    }

    /// Entries up to `through` are not needed any more; their terms are forgotten, but for the last one's.
    pub(crate) fn release(&mut self, through: LogIndex) {
        self.released = self.released.max(through.min(self.durable.last.index));
        while self.terms.get(1).is_some_and(|run| run.index <= self.released) {
            self.terms.pop_front();
        }
        while self.changes.front().is_some_and(|change| *change <= self.released) {
            self.changes.pop_front();
        }
        if let Some(front) = self.terms.front_mut() {
            front.index = front.index.max(self.released.min(self.tail.last.index));
        }
    }

    /// A batch at `place` is durable. `split_place` is where the entry began whose last part it holds.
    pub(crate) fn apply(&mut self, effect: &Effect, place: Place, split_place: Option<Place>) {
        if effect.restarted {
            self.spans.clear();
            self.released = effect.state.start.index;
            self.durable.last = effect.state.start;
        }
        if let Some(index) = effect.split {
            self.add_span(index, split_place.expect("a split entry's first part was seen before its last"), true);
        }
        if let Some(low) = effect.low {
            self.add_span(low, place, low <= self.durable.last.index);
        }
        self.durable = effect.state;
        self.is_durable = true;
    }

    /// Entries from `first` on begin at `place`. Entries that merely go on where the last span is near need none of their own.
    fn add_span(&mut self, first: LogIndex, place: Place, force: bool) {
        while self.spans.back().is_some_and(|span| span.first >= first) {
            self.spans.pop_back();
        }
        let near = self
            .spans
            .back()
            .is_some_and(|span| span.place.segment == place.segment && place.block - span.place.block < SPAN_BLOCKS);
        if force || !near {
            self.spans.push_back(Span { first, place });
        }
    }

    /// The span that holds `index`.
    pub(crate) fn span_of(&self, index: LogIndex) -> Option<usize> {
        self.spans.partition_point(|span| span.first <= index).checked_sub(1)
    }

    /// The first index that can be read.
    pub(crate) fn first_index(&self) -> LogIndex {
        self.spans.front().map_or(self.durable.last.index.next(), |span| span.first)
    }

    /// The oldest segment that holds an entry not released, if there is one.
    pub(crate) fn oldest_segment_needed(&self) -> Option<u64> {
        let next = self.released.next();
        if next > self.durable.last.index {
            return None;
        }
        let at = self.span_of(next).unwrap_or(0);
        self.spans.get(at).map(|span| span.place.segment)
    }

    /// Segments up to `segment` are gone.
    pub(crate) fn forget_segment(&mut self, segment: u64) {
        while self.spans.front().is_some_and(|span| span.place.segment <= segment) {
            self.spans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
