//! Members as the cluster knows them, and who of them votes.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{
    MemberId,
    codec::{Malformed, Reader, put_bytes, put_texts, put_varint},
    limits::{MEMBERS_MAX, URLS_MAX},
};

/// What a member is to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum Standing {
    /// It votes, or was added to do so.
    #[default]
    Voter = 0,
    /// It has no vote.
    Learner = 1,
    /// It was removed: its id never comes back.
    Removed = 2,
}

/// A member's entry in the tree `member`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MemberRecord {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// What it is to the cluster.
    pub standing: Standing,
}

impl MemberRecord {
    /// Whether it has no vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.standing == Standing::Learner
    }

    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        out.put_u64_le(self.id.0);
        out.put_u8(self.standing as u8);
        put_bytes(out, self.name.as_bytes());
        for urls in [&self.peer_urls, &self.client_urls] {
            put_texts(out, urls);
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode_into(&mut out);
        out.freeze()
    }

    pub(crate) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = MemberId(reader.u64()?);
        let standing = match reader.u8()? {
            0 => Standing::Voter,
            1 => Standing::Learner,
            2 => Standing::Removed,
            _ => return Err(Malformed("unknown standing of a member")),
        };
        let name = reader.text()?;
        Ok(Self { id, name, peer_urls: reader.texts(URLS_MAX)?, client_urls: reader.texts(URLS_MAX)?, standing })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let member = Self::decode_from(&mut reader)?;
        reader.finish()?;
        Ok(member)
    }
}

/// Who of the members votes. All lists are ascending and hold nobody twice.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Electorate {
    /// Who votes.
    pub voters: Vec<MemberId>,
    /// While more than one of them changes: who voted before.
    pub outgoing: Vec<MemberId>,
    /// Who gets entries and doesn't vote.
    pub learners: Vec<MemberId>,
    /// Those of the learners that were added as voters, and become that when they have been heard of.
    pub awaited: Vec<MemberId>,
}

impl Electorate {
    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        let Self { voters, outgoing, learners, awaited } = self;
        for list in [voters, outgoing, learners, awaited] {
            put_varint(out, list.len() as u64);
            list.iter().for_each(|id| out.put_u64_le(id.0));
        }
    }

    pub(crate) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { voters: ids(reader)?, outgoing: ids(reader)?, learners: ids(reader)?, awaited: ids(reader)? })
    }
}

/// What becomes of the members.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MembersChange {
    /// New ones.
    pub added: Vec<MemberRecord>,
    /// Learners that are none any more.
    pub promoted: Vec<MemberId>,
    /// Those that are gone for ever.
    pub removed: Vec<MemberId>,
    /// Who votes afterwards.
    pub electorate: Electorate,
}

impl MembersChange {
    pub(crate) fn encode_into(&self, out: &mut BytesMut) {
        let Self { added, promoted, removed, electorate } = self;
        put_varint(out, added.len() as u64);
        added.iter().for_each(|record| record.encode_into(out));
        for list in [promoted, removed] {
            put_varint(out, list.len() as u64);
            list.iter().for_each(|id| out.put_u64_le(id.0));
        }
        electorate.encode_into(out);
    }

    pub(crate) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.varint()?;
        if count > MEMBERS_MAX as u64 {
            return Err(TOO_MANY_MEMBERS);
        }
        let added = (0..count).map(|_| MemberRecord::decode_from(reader)).collect::<Result<_, _>>()?;
        let (promoted, removed) = (ids(reader)?, ids(reader)?);
        Ok(Self { added, promoted, removed, electorate: Electorate::decode_from(reader)? })
    }
}

const TOO_MANY_MEMBERS: Malformed = Malformed("more members than a group can have");

fn ids(reader: &mut Reader<'_>) -> Result<Vec<MemberId>, Malformed> {
    let count = reader.varint()?;
    if count > MEMBERS_MAX as u64 {
        return Err(TOO_MANY_MEMBERS);
    }
    (0..count).map(|_| reader.u64().map(MemberId)).collect()
}
