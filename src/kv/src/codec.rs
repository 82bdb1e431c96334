//! Commands as bytes in the log: a format byte, the proposal's name, then the command. Numbers are varints, byte strings stand behind their length.

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{
    MemberId, Term,
    codec::{Malformed, Reader, put_bytes, put_texts, put_varint},
    limits::URLS_MAX,
};

use crate::{
    AlarmAction, AlarmKind, Command, CommandKind, Compare, CompareResult, CompareTarget, DeleteRange, Envelope,
    KeyRange, MemberRecord, MembersChange, Op, ProposalId, Put, Query, SortOrder, SortTarget, Txn, TxnNode,
};

const FORMAT: u8 = 2;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const ALARM: u8 = 4;
const PUBLISH_MEMBER: u8 = 5;
const RANGE: u8 = 6;
const LEASE_GRANT: u8 = 7;
const LEASE_REVOKE: u8 = 8;
const LEASES_EXPIRE: u8 = 9;
const COMPACT: u8 = 10;
const CHANGE_MEMBERS: u8 = 11;
const UPDATE_MEMBER: u8 = 12;

/// Where a command says what it is: behind the format and the proposal's name.
const KIND_AT: usize = 17;

const FLAG_PREV_KV: u8 = 1;
const FLAG_IGNORE_VALUE: u8 = 2;
const FLAG_IGNORE_LEASE: u8 = 4;
const FLAG_KEYS_ONLY: u8 = 8;
const FLAG_COUNT_ONLY: u8 = 16;

impl Envelope {
    /// What an encoded command is; `None` for an empty entry.
    #[must_use]
    pub fn kind(payload: &[u8]) -> Option<CommandKind> {
        Some(match *payload.get(KIND_AT)? {
            PUT => CommandKind::Put,
            DELETE_RANGE => CommandKind::DeleteRange,
            TXN => CommandKind::Txn,
            LEASE_GRANT => CommandKind::LeaseGrant,
            LEASE_REVOKE | LEASES_EXPIRE => CommandKind::LeaseRevoke,
            COMPACT => CommandKind::Compaction,
            ALARM => CommandKind::Alarm,
            PUBLISH_MEMBER => CommandKind::PublishMember,
            CHANGE_MEMBERS | UPDATE_MEMBER => CommandKind::ChangeMembers,
            _ => return None,
        })
    }

    /// Whether an encoded command is about what clients store. Alarms and members are not: these commands pass whatever alarm is raised.
    #[must_use]
    pub fn is_about_keys(payload: &[u8]) -> bool {
        let is_about_members =
            |kind| matches!(kind, CommandKind::Alarm | CommandKind::PublishMember | CommandKind::ChangeMembers);
        !Self::kind(payload).is_some_and(is_about_members)
    }

    /// The payload of a log entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.bytes_hint());
        out.put_u8(FORMAT);
        out.put_u64_le(self.proposal.origin);
        out.put_u64_le(self.proposal.number);
        match &self.command {
            Command::Put(put) => put_op(&mut out, put),
            Command::DeleteRange(delete) => delete_op(&mut out, delete),
            Command::Txn(txn) => txn_op(&mut out, txn),
            Command::LeaseGrant { id, ttl } => {
                out.put_u8(LEASE_GRANT);
                out.put_i64_le(*id);
                put_varint(&mut out, *ttl as u64);
            }
            Command::LeaseRevoke { id } => {
                out.put_u8(LEASE_REVOKE);
                out.put_i64_le(*id);
            }
            Command::LeasesExpire { ids, term } => {
                out.put_u8(LEASES_EXPIRE);
                put_varint(&mut out, ids.len() as u64);
                ids.iter().for_each(|id| out.put_i64_le(*id));
                out.put_u64_le(term.0);
            }
            Command::Compact { revision } => {
                out.put_u8(COMPACT);
                out.put_i64_le(*revision);
            }
            Command::Alarm { action, member, alarm } => {
                out.put_slice(&[ALARM, *action as u8, *alarm as u8]);
                out.put_u64_le(*member);
            }
            Command::PublishMember(member) => {
                out.put_u8(PUBLISH_MEMBER);
                member.encode_into(&mut out);
            }
            Command::ChangeMembers(change) => {
                out.put_u8(CHANGE_MEMBERS);
                change.encode_into(&mut out);
            }
            Command::UpdateMember { id, peer_urls } => {
                out.put_u8(UPDATE_MEMBER);
                out.put_u64_le(id.0);
                put_texts(&mut out, peer_urls);
            }
        }
        out.freeze()
    }

    /// Reads a payload. Keys and values share its memory.
    pub fn decode(payload: &Bytes) -> Result<Self, Malformed> {
        let mut input = Input { payload, reader: Reader::new(payload) };
        if input.reader.u8()? != FORMAT {
            return Err(Malformed("unknown format of a command"));
        }
        let proposal = ProposalId { origin: input.reader.u64()?, number: input.reader.u64()? };
        let command = match input.reader.u8()? {
            PUT => Command::Put(input.put()?),
            DELETE_RANGE => Command::DeleteRange(input.delete_range()?),
            TXN => Command::Txn(input.txn()?),
            LEASE_GRANT => Command::LeaseGrant { id: input.reader.i64()?, ttl: input.number()? },
            LEASE_REVOKE => Command::LeaseRevoke { id: input.reader.i64()? },
            COMPACT => Command::Compact { revision: input.reader.i64()? },
            LEASES_EXPIRE => {
                let ids = input.count()?;
                let ids = (0..ids).map(|_| input.reader.i64()).collect::<Result<_, _>>()?;
                Command::LeasesExpire { ids, term: Term(input.reader.u64()?) }
            }
            ALARM => {
                let (action, alarm) = (alarm_action(input.reader.u8()?)?, alarm_kind(input.reader.u8()?)?);
                Command::Alarm { action, member: input.reader.u64()?, alarm }
            }
            PUBLISH_MEMBER => Command::PublishMember(MemberRecord::decode_from(&mut input.reader)?),
            CHANGE_MEMBERS => Command::ChangeMembers(MembersChange::decode_from(&mut input.reader)?),
            UPDATE_MEMBER => {
                let (id, peer_urls) = (MemberId(input.reader.u64()?), input.reader.texts(URLS_MAX)?);
                Command::UpdateMember { id, peer_urls }
            }
            _ => return Err(Malformed("unknown command")),
        };
        input.reader.finish()?;
        Ok(Self { proposal, command })
    }

    fn bytes_hint(&self) -> usize {
        const FIXED: usize = 40;
        match &self.command {
            Command::Put(put) => FIXED + put.key.len() + put.value.len(),
            Command::DeleteRange(delete) => FIXED + delete.range.key.len() + delete.range.end.len(),
            _ => 512,
        }
    }
}

fn put_range(out: &mut BytesMut, range: &KeyRange) {
    put_bytes(out, &range.key);
    put_bytes(out, &range.end);
}

fn put_op(out: &mut BytesMut, put: &Put) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(put.prev_kv, FLAG_PREV_KV)
        | flag(put.ignore_value, FLAG_IGNORE_VALUE)
        | flag(put.ignore_lease, FLAG_IGNORE_LEASE);
    out.put_slice(&[PUT, flags]);
    put_varint(out, put.lease as u64);
    put_bytes(out, &put.key);
    put_bytes(out, &put.value);
}

fn delete_op(out: &mut BytesMut, delete: &DeleteRange) {
    out.put_slice(&[DELETE_RANGE, if delete.prev_kv { FLAG_PREV_KV } else { 0 }]);
    put_range(out, &delete.range);
}

fn range_op(out: &mut BytesMut, query: &Query) {
    let flags = if query.keys_only { FLAG_KEYS_ONLY } else { 0 } | if query.count_only { FLAG_COUNT_ONLY } else { 0 };
    out.put_slice(&[RANGE, flags, query.order as u8, query.target as u8]);
    put_range(out, &query.range);
    let Query { limit, revision, min_mod, max_mod, min_create, max_create, .. } = *query;
    for number in [limit, revision, min_mod, max_mod, min_create, max_create] {
        put_varint(out, number as u64);
    }
}

fn txn_op(out: &mut BytesMut, txn: &Txn) {
    out.put_u8(TXN);
    put_varint(out, txn.nodes.len() as u64);
    for node in &txn.nodes {
        put_varint(out, node.compares.len() as u64);
        for compare in &node.compares {
            compare_op(out, compare);
        }
        for branch in [&node.success, &node.failure] {
            put_varint(out, branch.len() as u64);
            for op in branch {
                match op {
                    Op::Range(query) => range_op(out, query),
                    Op::Put(put) => put_op(out, put),
                    Op::DeleteRange(delete) => delete_op(out, delete),
                    Op::Txn(node) => {
                        out.put_u8(TXN);
                        put_varint(out, u64::from(*node));
                    }
                }
            }
        }
    }
}

fn compare_op(out: &mut BytesMut, compare: &Compare) {
    let (target, number) = match &compare.target {
        CompareTarget::Version(n) => (0, *n),
        CompareTarget::Create(n) => (1, *n),
        CompareTarget::Mod(n) => (2, *n),
        CompareTarget::Value(_) => (3, 0),
        CompareTarget::Lease(n) => (4, *n),
    };
    out.put_slice(&[compare.result as u8, target]);
    put_range(out, &compare.range);
    match &compare.target {
        CompareTarget::Value(value) => put_bytes(out, value),
        _ => put_varint(out, number as u64),
    }
}

fn alarm_action(byte: u8) -> Result<AlarmAction, Malformed> {
    [AlarmAction::Get, AlarmAction::Activate, AlarmAction::Deactivate]
        .into_iter()
        .find(|a| *a as u8 == byte)
        .ok_or(Malformed("unknown alarm action"))
}

pub(crate) fn alarm_kind(byte: u8) -> Result<AlarmKind, Malformed> {
    [AlarmKind::None, AlarmKind::NoSpace, AlarmKind::Corrupt]
        .into_iter()
        .find(|a| *a as u8 == byte)
        .ok_or(Malformed("unknown alarm"))
}

struct Input<'a> {
    payload: &'a Bytes,
    reader: Reader<'a>,
}

impl Input<'_> {
    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        Ok(self.payload.slice_ref(self.reader.bytes()?))
    }

    fn number(&mut self) -> Result<i64, Malformed> {
        Ok(self.reader.varint()? as i64)
    }

    /// A count of things that take at least one byte each: one that can't be true is refused before memory is reserved for it.
    fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.reader.varint()?;
        if count > self.reader.rest().len() as u64 {
            return Err(Malformed("more elements than bytes"));
        }
        usize::try_from(count).map_err(|_| Malformed("count beyond memory"))
    }

    fn range(&mut self) -> Result<KeyRange, Malformed> {
        Ok(KeyRange { key: self.bytes()?, end: self.bytes()? })
    }

    fn put(&mut self) -> Result<Put, Malformed> {
        let flags = self.reader.u8()?;
        let lease = self.number()?;
        Ok(Put {
            key: self.bytes()?,
            value: self.bytes()?,
            lease,
            prev_kv: flags & FLAG_PREV_KV != 0,
            ignore_value: flags & FLAG_IGNORE_VALUE != 0,
            ignore_lease: flags & FLAG_IGNORE_LEASE != 0,
        })
    }

    fn delete_range(&mut self) -> Result<DeleteRange, Malformed> {
        let flags = self.reader.u8()?;
        Ok(DeleteRange { range: self.range()?, prev_kv: flags & FLAG_PREV_KV != 0 })
    }

    fn query(&mut self) -> Result<Query, Malformed> {
        let flags = self.reader.u8()?;
        let order = SortOrder::from_number(i32::from(self.reader.u8()?)).ok_or(Malformed("unknown sort order"))?;
        let target = SortTarget::from_number(i32::from(self.reader.u8()?)).ok_or(Malformed("unknown sort target"))?;
        let range = self.range()?;
        Ok(Query {
            range,
            limit: self.number()?,
            revision: self.number()?,
            min_mod: self.number()?,
            max_mod: self.number()?,
            min_create: self.number()?,
            max_create: self.number()?,
            order,
            target,
            keys_only: flags & FLAG_KEYS_ONLY != 0,
            count_only: flags & FLAG_COUNT_ONLY != 0,
        })
    }

    fn txn(&mut self) -> Result<Txn, Malformed> {
        let nodes = self.count()?;
        let mut txn = Txn { nodes: Vec::with_capacity(nodes) };
        let mut has_parent = vec![false; nodes];
        for at in 0..nodes {
            let compares = self.count()?;
            let compares = (0..compares).map(|_| self.compare()).collect::<Result<_, _>>()?;
            let success = self.branch(at, &mut has_parent)?;
            let failure = self.branch(at, &mut has_parent)?;
            txn.nodes.push(TxnNode { compares, success, failure });
        }
        if txn.nodes.is_empty() { Err(Malformed("a transaction without a node")) } else { Ok(txn) }
    }

    fn branch(&mut self, at: usize, has_parent: &mut [bool]) -> Result<Vec<Op>, Malformed> {
        let ops = self.count()?;
        (0..ops)
            .map(|_| match self.reader.u8()? {
                RANGE => Ok(Op::Range(self.query()?)),
                PUT => Ok(Op::Put(self.put()?)),
                DELETE_RANGE => Ok(Op::DeleteRange(self.delete_range()?)),
                TXN => {
                    let node =
                        u32::try_from(self.reader.varint()?).map_err(|_| Malformed("too many nested transactions"))?;
                    // Only forward, and each once: walking them ends after as many steps as there are.
                    match has_parent.get_mut(node as usize) {
                        Some(has_parent) if node as usize > at && !*has_parent => *has_parent = true,
                        _ => return Err(Malformed("a nested transaction lies behind its one parent")),
                    }
                    Ok(Op::Txn(node))
                }
                _ => Err(Malformed("unknown operation")),
            })
            .collect()
    }

    fn compare(&mut self) -> Result<Compare, Malformed> {
        use CompareResult::{Equal, Greater, Less, NotEqual, Unknown};
        let result = self.reader.u8()?;
        let result = [Equal, Greater, Less, NotEqual, Unknown]
            .into_iter()
            .find(|r| *r as u8 == result)
            .ok_or(Malformed("unknown compare result"))?;
        let target = self.reader.u8()?;
        let range = self.range()?;
        let target = match target {
            0 => CompareTarget::Version(self.number()?),
            1 => CompareTarget::Create(self.number()?),
            2 => CompareTarget::Mod(self.number()?),
            3 => CompareTarget::Value(self.bytes()?),
            4 => CompareTarget::Lease(self.number()?),
            _ => return Err(Malformed("unknown compare target")),
        };
        Ok(Compare { range, result, target })
    }
}

#[cfg(test)]
mod tests;
