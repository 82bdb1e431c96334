//! The state record in a group's root: atomic with the data it describes.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{
    LogIndex, MemberId, Revision, Term,
    codec::{Malformed, Reader, put_varint},
};

use crate::{Electorate, codec, command::AlarmKind};

/// First byte of the encoded record.
const FORMAT: u8 = 4;

/// Alarms that can be raised at once: the record in the root is small.
pub(crate) const ALARMS_MAX: usize = 32;

/// What a group's root knows of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// The newest applied entry.
    pub applied: LogIndex,
    /// That entry's term.
    pub applied_term: Term,
    /// Current main revision; 1 when nothing was ever written.
    pub revision: i64,
    /// The compacted revision, -1 before the first compaction.
    pub compacted: i64,
    /// The changes before this one, as far as they are compacted, have been swept: what they superseded is gone.
    pub swept: Revision,
    /// Sum of a hash of every record ever stored and not compacted: equal on members that hold the same records.
    pub content_hash: u64,
    /// Bytes of keys and values put so far, for etcd's metric.
    pub put_bytes: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// Who votes.
    pub electorate: Electorate,
    /// The alarms that are raised, ascending: member and kind.
    pub alarms: Vec<(u64, AlarmKind)>,
}

impl State {
    /// The state of a new cluster: its first configuration counts as the entry with index 1 of term 1.
    #[must_use]
    pub fn bootstrap(cluster_id: u64, mut voters: Vec<MemberId>) -> Self {
        voters.sort_unstable();
        let electorate = Electorate { voters, ..Electorate::default() };
        Self {
            applied: LogIndex(1),
            applied_term: Term(1),
            revision: 1,
            compacted: -1,
            swept: Revision::default(),
            content_hash: 0,
            put_bytes: 0,
            cluster_id,
            electorate,
            alarms: Vec::new(),
        }
    }

    /// Whether everything is removed that the newest compaction made unreachable.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        // At the end of a sweep the cursor goes back to the beginning of the compacted revision.
        self.compacted < 0 || self.swept == (Revision { main: self.compacted, sub: 0 })
    }

    /// Whether all of the store at `revision` is still there, whatever is compacted.
    #[must_use]
    pub fn holds(&self, revision: i64) -> bool {
        self.swept.main <= revision
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(96);
        out.put_u8(FORMAT);
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.applied_term.0);
        out.put_i64_le(self.revision);
        out.put_i64_le(self.compacted);
        out.put_i64_le(self.swept.main);
        out.put_u32_le(self.swept.sub);
        out.put_u64_le(self.content_hash);
        out.put_u64_le(self.put_bytes);
        out.put_u64_le(self.cluster_id);
        self.electorate.encode_into(&mut out);
        put_varint(&mut out, self.alarms.len() as u64);
        for (member, alarm) in &self.alarms {
            out.put_u64_le(*member);
            out.put_u8(*alarm as u8);
        }
        out.freeze()
    }

    /// Reads the record.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != FORMAT {
            return Err(Malformed("unknown format of the state record"));
        }
        let mut state = Self {
            applied: LogIndex(reader.u64()?),
            applied_term: Term(reader.u64()?),
            revision: reader.i64()?,
            compacted: reader.i64()?,
            swept: Revision { main: reader.i64()?, sub: reader.u32()? },
            content_hash: reader.u64()?,
            put_bytes: reader.u64()?,
            cluster_id: reader.u64()?,
            electorate: Electorate::decode_from(&mut reader)?,
            alarms: Vec::new(),
        };
        let alarms = reader.varint()?;
        if alarms > ALARMS_MAX as u64 {
            return Err(Malformed("more alarms than a group can have"));
        }
        for _ in 0..alarms {
            state.alarms.push((reader.u64()?, codec::alarm_kind(reader.u8()?)?));
        }
        reader.finish()?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_record_survives_the_round_trip_and_cut_ones_are_refused() {
        let mut state = State::bootstrap(0xcdf8_1819_4e3a_8c32, vec![MemberId(9), MemberId(3)]);
        state.electorate.learners = vec![MemberId(11), MemberId(12)];
        state.electorate.awaited = vec![MemberId(12)];
        state.compacted = 17;
        state.swept = Revision { main: 12, sub: 3 };
        state.content_hash = u64::MAX;
        state.alarms = vec![(7, AlarmKind::NoSpace), (9, AlarmKind::Corrupt)];
        let bytes = state.encode();
        assert_eq!(State::decode(&bytes), Ok(state));
        for len in 0..bytes.len() {
            assert!(State::decode(&bytes[..len]).is_err());
        }
    }
}
