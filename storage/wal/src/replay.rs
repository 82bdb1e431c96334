//! The records of a log, taken in order to the groups' states: the part of recovery that does no I/O.
//!
//! Invariant: only whole entries count. A split entry without its last part was never acknowledged; it is dropped where a segment
//! begins that doesn't go on with it.

use std::collections::BTreeMap;

use plinth_base::{GroupId, LogIndex, codec::Malformed, limits::GROUPS_PER_SHARD_MAX};

use crate::{
    batch::{EntryHead, Part, Record, Records, Start},
    format::{BatchHeader, FLAG_SEAL},
    group::{Effects, Group, GroupState, Place, Position},
};

/// A split entry whose last part has not come yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Split {
    None,
    /// Its first part lies at `place`.
    Open {
        head: EntryHead,
        seen_bytes: u64,
        place: Place,
    },
    /// Its first part lay in a segment that is gone.
    Orphan,
}

/// States and indexes of all groups, as far as the log has been read.
pub(crate) struct Replay {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    /// Where each group's log began when the oldest segment did: nothing can be at or below it.
    origins: BTreeMap<GroupId, LogIndex>,
    split: Split,
    pub(crate) is_sealed: bool,
}

impl Replay {
    /// Begins with the oldest segment.
    pub(crate) fn new(start: &Start) -> Result<Self, Malformed> {
        let groups = start.groups.iter().map(|&(group, state)| (group, Group::from_state(state))).collect();
        let origins = start.groups.iter().map(|&(group, state)| (group, state.start.index)).collect();
        let split = match start.chain.split {
            0 => Split::None,
            1 => Split::Orphan,
            _ => return Err(Malformed("a split that is neither open nor not")),
        };
        Ok(Self { groups, origins, split, is_sealed: true })
    }

    /// Goes on with the next segment, whose start must say what the segments before led to.
    pub(crate) fn next_segment(&mut self, start: &Start) -> Result<(), Malformed> {
        // A cut adds doubt, and nothing but a start says so.
        let is_doubted = |group| start.groups.iter().any(|(of, state)| *of == group && state.hard_state.is_doubtful);
        for (group, known) in &mut self.groups {
            known.doubt_if(is_doubted(*group));
        }
        let known = self.groups.iter().map(|(&group, state)| (group, state.tail.hard_state, state.tail.last));
        let stored = start.groups.iter().map(|&(group, state)| (group, state.hard_state, state.last));
        if !known.eq(stored) {
            return Err(Malformed("states that differ from what the segment before leads to"));
        }
        match (start.chain.split, self.split) {
            (0, _) => self.split = Split::None,
            (1, Split::Open { .. } | Split::Orphan) => {}
            _ => return Err(Malformed("a start that goes on with an entry nobody began")),
        }
        self.is_sealed = true;
        Ok(())
    }

    /// Whether an entry's last part is missing.
    pub(crate) fn has_open_split(&self) -> bool {
        self.split != Split::None
    }

    /// Takes the batch at `place`.
    pub(crate) fn batch(&mut self, header: &BatchHeader, payload: &[u8], place: Place) -> Result<(), Malformed> {
        let is_seal = match header.flags.get() {
            0 => false,
            FLAG_SEAL => true,
            _ => return Err(Malformed("unknown flags of a batch")),
        };
        if is_seal == (header.records.get() != 0) || (is_seal && self.has_open_split()) {
            return Err(Malformed("a seal with records, or a batch without"));
        }
        let split_place = match self.split {
            Split::Open { place, .. } => Some(place),
            Split::None | Split::Orphan => None,
        };
        let mut effects = Effects::default();
        let mut records = Records::new(header, payload);
        let mut is_first = true;
        while let Some(record) = records.next().transpose()? {
            let goes_on = matches!(record, Record::Entry { part: Part::Middle | Part::Last, .. });
            if goes_on != (is_first && self.has_open_split()) {
                return Err(Malformed("parts of an entry out of order"));
            }
            is_first = false;
            let ends_batch = matches!(record, Record::Entry { part: Part::First | Part::Middle, .. });
            self.record(record, place, &mut effects)?;
            if ends_batch && records.next().is_some() {
                return Err(Malformed("records behind a part that goes on"));
            }
        }
        for effect in effects.iter() {
            let group = self.groups.get_mut(&effect.group).ok_or(UNKNOWN_GROUP)?;
            group.apply(effect, place, split_place);
        }
        self.is_sealed = is_seal;
        Ok(())
    }

    fn record(&mut self, record: Record<'_>, place: Place, effects: &mut Effects) -> Result<(), Malformed> {
        match record {
            Record::Entry { head, part: Part::Whole, .. } => self.entry(&head, false, effects),
            Record::Entry { head, part, bytes } => {
                self.part(Split::Open { head, seen_bytes: bytes.len() as u64, place }, part, effects)
            }
            Record::HardState { group, state } => {
                let known = self.groups.get_mut(&group).ok_or(UNKNOWN_GROUP)?;
                known.tail.hard_state = state;
                effects.note_hard_state(group, known.tail);
                Ok(())
            }
            Record::GroupStart { group, start } => {
                if !self.groups.contains_key(&group) && self.groups.len() >= GROUPS_PER_SHARD_MAX {
                    return Err(Malformed("more groups than a shard carries"));
                }
                self.restart(group, start, effects);
                Ok(())
            }
            Record::Chain(_) | Record::GroupState { .. } => Err(Malformed("a start's record in another batch")),
        }
    }

    fn restart(&mut self, group: GroupId, start: Position, effects: &mut Effects) {
        let known = self.groups.entry(group).or_default();
        known.restart(start);
        effects.note_start(group, known.tail);
        self.origins.insert(group, start.index);
    }

    fn entry(&mut self, head: &EntryHead, split: bool, effects: &mut Effects) -> Result<(), Malformed> {
        let EntryHead { group, at, previous_term, is_change, .. } = *head;
        let known = self.groups.get_mut(&group).ok_or(UNKNOWN_GROUP)?;
        let origin = self.origins.get(&group).copied().unwrap_or_default();
        if at.index <= origin || at.index > known.tail.last.index.next() {
            return Err(Malformed("an entry that leaves a gap"));
        }
        let previous = Position { index: LogIndex(at.index.0 - 1), term: previous_term };
        if at.index <= known.tail.start.index {
            // It replaces entries of an older segment that is gone, and so are those before it.
            known.restart(previous);
            effects.note_start(group, known.tail);
        }
        if known.term_of(previous.index) != Some(previous.term) {
            return Err(Malformed("an entry that follows one of another term"));
        }
        known.push_entry(at);
        if is_change {
            known.note_change();
        }
        effects.note_entry(group, known.tail, split);
        Ok(())
    }

    /// Takes a part of a split entry; `seen` is what the part alone would make.
    fn part(&mut self, seen: Split, part: Part, effects: &mut Effects) -> Result<(), Malformed> {
        let Split::Open { head, seen_bytes: bytes, .. } = seen else { return Ok(()) };
        match &mut self.split {
            Split::None => self.split = seen,
            Split::Orphan if part == Part::Last => {
                // Its first part was released, and so is the whole.
                self.split = Split::None;
                let known = self.groups.get_mut(&head.group).ok_or(UNKNOWN_GROUP)?;
                known.restart(head.at);
                effects.note_start(head.group, known.tail);
            }
            Split::Orphan => {}
            Split::Open { head: begun, .. } if *begun != head => return Err(Malformed("parts of different entries")),
            Split::Open { seen_bytes, .. } => {
                *seen_bytes += bytes;
                if (*seen_bytes == u64::from(head.total_bytes)) != (part == Part::Last) {
                    return Err(Malformed("parts that don't make up their entry"));
                }
                if part == Part::Last {
                    self.split = Split::None;
                    self.entry(&head, true, effects)?;
                }
            }
        }
        Ok(())
    }

    /// The batch that was cut off may have been durable: no group knows whether something is missing.
    pub(crate) fn doubt(&mut self) {
        self.groups.values_mut().for_each(|group| group.doubt_if(true));
    }

    /// The groups as they stand now.
    pub(crate) fn states(&self) -> BTreeMap<GroupId, GroupState> {
        self.groups.iter().map(|(&group, state)| (group, state.tail)).collect()
    }
}

const UNKNOWN_GROUP: Malformed = Malformed("a record of a group that was never started");
