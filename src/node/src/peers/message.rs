//! Raft's messages as frames. Payloads of entries are not copied when they are read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, LogIndex, MemberId, Term, codec::Malformed};
use plinth_raft::{Body, Entry, Message, Position};

use super::frame::{FrameError, FrameHeader, put_frame};

const PRE_VOTE: u8 = 1;
const PRE_VOTE_REPLY: u8 = 2;
const VOTE: u8 = 3;
const VOTE_REPLY: u8 = 4;
const HEARTBEAT: u8 = 5;
const HEARTBEAT_REPLY: u8 = 6;
const APPEND: u8 = 7;
const APPEND_REPLY: u8 = 8;
const APPEND_REFUSED: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const PROPOSE: u8 = 11;
const PROPOSE_REFUSED: u8 = 12;
const READ_INDEX: u8 = 13;
const READ_INDEX_REPLY: u8 = 14;
const READ_INDEX_REFUSED: u8 = 15;
const COMMIT: u8 = 16;

/// Flag of an entry: it changes the members.
const ENTRY_CHANGE: u32 = 1;

/// What stands before an entry's payload: term, flags, length.
const ENTRY_HEAD_BYTES: usize = 16;

/// Appends `message` as a frame. Who sends it, and to whom, the connection knows.
pub fn encode(group: GroupId, message: &Message, out: &mut BytesMut) {
    let Message { term, body, .. } = message;
    put_frame(out, kind(body), group, |out| {
        out.put_u64_le(term.0);
        put_body(out, body);
    });
}

fn kind(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => PRE_VOTE,
        Body::PreVoteReply { .. } => PRE_VOTE_REPLY,
        Body::Vote { .. } => VOTE,
        Body::VoteReply { .. } => VOTE_REPLY,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::HeartbeatReply { .. } => HEARTBEAT_REPLY,
        Body::Append { .. } => APPEND,
        Body::Commit { .. } => COMMIT,
        Body::AppendReply { .. } => APPEND_REPLY,
        Body::AppendRefused { .. } => APPEND_REFUSED,
        Body::TimeoutNow => TIMEOUT_NOW,
        Body::Propose { .. } => PROPOSE,
        Body::ProposeRefused { .. } => PROPOSE_REFUSED,
        Body::ReadIndex { .. } => READ_INDEX,
        Body::ReadIndexReply { .. } => READ_INDEX_REPLY,
        Body::ReadIndexRefused { .. } => READ_INDEX_REFUSED,
    }
}

fn put_body(out: &mut BytesMut, body: &Body) {
    match body {
        Body::PreVote { next_term, last, commit } => {
            out.put_u64_le(next_term.0);
            put_position(out, *last);
            put_position(out, *commit);
        }
        Body::PreVoteReply { next_term, granted, is_doubtful, commit } => {
            out.put_u64_le(next_term.0);
            out.put_u8((*granted).into());
            out.put_u8((*is_doubtful).into());
            put_position(out, *commit);
        }
        Body::Vote { last, is_handover, commit } => {
            put_position(out, *last);
            out.put_u8((*is_handover).into());
            put_position(out, *commit);
        }
        Body::VoteReply { granted, is_doubtful, commit } => {
            out.put_u8((*granted).into());
            out.put_u8((*is_doubtful).into());
            put_position(out, *commit);
        }
        Body::Heartbeat { commit, round } => {
            out.put_u64_le(commit.0);
            out.put_u64_le(*round);
        }
        Body::HeartbeatReply { round } => out.put_u64_le(*round),
        Body::Append { previous, commit, entries } => {
            put_position(out, *previous);
            out.put_u64_le(commit.0);
            out.put_u32_le(u32::try_from(entries.len()).expect("a message holds far fewer"));
            for entry in entries {
                out.put_u64_le(entry.term.0);
                out.put_u32_le(if entry.is_change { ENTRY_CHANGE } else { 0 });
                out.put_u32_le(u32::try_from(entry.payload.len()).expect("an entry is below 4 GiB"));
                out.put_slice(&entry.payload);
            }
        }
        Body::Commit { previous, commit } => {
            put_position(out, *previous);
            out.put_u64_le(commit.0);
        }
        Body::AppendReply { received, durable } => {
            out.put_u64_le(received.0);
            out.put_u64_le(durable.0);
        }
        Body::AppendRefused { probed, hint } => {
            out.put_u64_le(probed.0);
            put_position(out, *hint);
        }
        Body::TimeoutNow => {}
        Body::Propose { ticket, payload } => {
            out.put_u64_le(*ticket);
            out.put_slice(payload);
        }
        Body::ProposeRefused { ticket } | Body::ReadIndex { ticket } | Body::ReadIndexRefused { ticket } => {
            out.put_u64_le(*ticket);
        }
        Body::ReadIndexReply { ticket, index } => {
            out.put_u64_le(*ticket);
            out.put_u64_le(index.0);
        }
    }
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.put_u64_le(position.index.0);
    out.put_u64_le(position.term.0);
}

/// The message of a frame that came from `from` and is for `to`.
///
/// # Errors
/// The payload isn't what was sent, or means nothing.
pub fn decode(header: &FrameHeader, payload: Bytes, from: MemberId, to: MemberId) -> Result<Message, FrameError> {
    header.check(&payload)?;
    let mut rest = Fields(payload);
    let term = Term(rest.u64()?);
    let body = read_body(header.kind(), &mut rest)?;
    if !rest.0.is_empty() {
        return Err(FrameError::Malformed("bytes behind the message"));
    }
    Ok(Message { from, to, term, body })
}

fn read_body(kind: u8, rest: &mut Fields) -> Result<Body, Malformed> {
    Ok(match kind {
        PRE_VOTE => Body::PreVote { next_term: Term(rest.u64()?), last: rest.position()?, commit: rest.position()? },
        PRE_VOTE_REPLY => Body::PreVoteReply {
            next_term: Term(rest.u64()?),
            granted: rest.bool()?,
            is_doubtful: rest.bool()?,
            commit: rest.position()?,
        },
        VOTE => Body::Vote { last: rest.position()?, is_handover: rest.bool()?, commit: rest.position()? },
        VOTE_REPLY => Body::VoteReply { granted: rest.bool()?, is_doubtful: rest.bool()?, commit: rest.position()? },
        HEARTBEAT => Body::Heartbeat { commit: rest.index()?, round: rest.u64()? },
        HEARTBEAT_REPLY => Body::HeartbeatReply { round: rest.u64()? },
        APPEND => read_append(rest)?,
        COMMIT => Body::Commit { previous: rest.position()?, commit: rest.index()? },
        APPEND_REPLY => {
            let (received, durable) = (rest.index()?, rest.index()?);
            if durable > received {
                return Err(Malformed("durable entries that were never received"));
            }
            Body::AppendReply { received, durable }
        }
        APPEND_REFUSED => Body::AppendRefused { probed: rest.index()?, hint: rest.position()? },
        TIMEOUT_NOW => Body::TimeoutNow,
        PROPOSE => {
            let ticket = rest.u64()?;
            let payload = rest.0.split_off(0);
            if payload.is_empty() {
                return Err(Malformed("an empty proposal"));
            }
            Body::Propose { ticket, payload }
        }
        PROPOSE_REFUSED => Body::ProposeRefused { ticket: rest.u64()? },
        READ_INDEX => Body::ReadIndex { ticket: rest.u64()? },
        READ_INDEX_REPLY => Body::ReadIndexReply { ticket: rest.u64()?, index: rest.index()? },
        READ_INDEX_REFUSED => Body::ReadIndexRefused { ticket: rest.u64()? },
        _ => return Err(Malformed("unknown kind of message")),
    })
}

fn read_append(rest: &mut Fields) -> Result<Body, Malformed> {
    let (previous, commit, count) = (rest.position()?, rest.index()?, rest.u32()?);
    if count as usize > rest.0.len() / ENTRY_HEAD_BYTES {
        return Err(Malformed("more entries than bytes"));
    }
    let mut entries = Vec::with_capacity(count as usize);
    let mut before = previous;
    for _ in 0..count {
        let (term, flags, bytes) = (Term(rest.u64()?), rest.u32()?, rest.u32()?);
        if term < before.term || before.index.0 >= u64::MAX - 1 {
            return Err(Malformed("terms that go back, or indexes that end"));
        }
        if flags > ENTRY_CHANGE {
            return Err(Malformed("unknown flags of an entry"));
        }
        let payload = rest.take(bytes as usize)?;
        let index = before.index.next();
        before = Position { index, term };
        entries.push(Entry { index, term, is_change: flags == ENTRY_CHANGE, payload });
    }
    Ok(Body::Append { previous, commit, entries })
}

/// What is left of a payload.
struct Fields(Bytes);

impl Fields {
    fn take(&mut self, bytes: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < bytes { Err(Malformed("a message ends early")) } else { Ok(self.0.split_to(bytes)) }
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_| Malformed("a message ends early"))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32_le().map_err(|_| Malformed("a message ends early"))
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        match self.0.try_get_u8() {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            _ => Err(Malformed("neither yes nor no")),
        }
    }

    /// Every index has a next one.
    fn index(&mut self) -> Result<LogIndex, Malformed> {
        match self.u64()? {
            u64::MAX => Err(Malformed("an index at the end of all indexes")),
            index => Ok(LogIndex(index)),
        }
    }

    fn position(&mut self) -> Result<Position, Malformed> {
        Ok(Position { index: self.index()?, term: Term(self.u64()?) })
    }
}

#[cfg(test)]
mod tests;
