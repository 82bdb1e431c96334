//! Questions about leases, which only the leader can answer, and its answers, as frames.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, codec::Malformed};
use plinth_kv::ByTtl;

use super::frame::{FrameError, FrameHeader, put_frame};

const LEASE_RENEW: u8 = 32;
const LEASES_REMAINING: u8 = 33;
const LEASES_TOLD: u8 = 34;

/// What an answer is.
const REFUSED: u8 = 0;
const GONE: u8 = 1;
const REMAINING: u8 = 2;

/// Stands for a lease whose time is over.
const OVER: u64 = u64::MAX;

/// A question or an answer. The asker's number names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseFrame {
    /// Give it its whole TTL again.
    Renew(u64, ByTtl),
    /// How long do they still live?
    Remaining(u64, Vec<ByTtl>),
    /// The answer.
    Told(u64, LeaseAnswer),
}

/// What the leader says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LeaseAnswer {
    /// It doesn't lead, or can't answer now.
    Refused,
    /// What was to be renewed is gone.
    Gone,
    /// How long they still live; `None` for one whose time is over.
    Remaining(Vec<Option<Duration>>),
}

/// Whether a frame of this kind is one.
#[must_use]
pub fn is_about_leases(kind: u8) -> bool {
    (LEASE_RENEW..=LEASES_TOLD).contains(&kind)
}

impl LeaseFrame {
    /// Appends it as a frame.
    pub fn encode(&self, group: GroupId, out: &mut BytesMut) {
        match self {
            Self::Renew(number, lease) => put_frame(out, LEASE_RENEW, group, |out| {
                out.put_u64_le(*number);
                put_lease(out, *lease);
            }),
            Self::Remaining(number, leases) => put_frame(out, LEASES_REMAINING, group, |out| {
                out.put_u64_le(*number);
                leases.iter().for_each(|lease| put_lease(out, *lease));
            }),
            Self::Told(number, answer) => put_frame(out, LEASES_TOLD, group, |out| {
                out.put_u64_le(*number);
                put_answer(out, answer);
            }),
        }
    }

    /// The question or answer in a frame.
    ///
    /// # Errors
    /// The payload isn't what was sent, or means nothing.
    pub fn decode(header: &FrameHeader, mut payload: Bytes) -> Result<Self, FrameError> {
        header.check(&payload)?;
        let rest = &mut payload;
        let number = u64(rest)?;
        let frame = match header.kind() {
            LEASE_RENEW => Self::Renew(number, lease(rest)?),
            LEASES_REMAINING => {
                let mut leases = Vec::new();
                while !rest.is_empty() {
                    leases.push(lease(rest)?);
                }
                Self::Remaining(number, leases)
            }
            _ => Self::Told(number, answer(rest)?),
        };
        if rest.is_empty() { Ok(frame) } else { Err(FrameError::Malformed("bytes behind the message")) }
    }
}

fn put_lease(out: &mut BytesMut, lease: ByTtl) {
    out.put_i64_le(lease.ttl);
    out.put_i64_le(lease.id);
}

fn put_answer(out: &mut BytesMut, answer: &LeaseAnswer) {
    match answer {
        LeaseAnswer::Refused => out.put_u8(REFUSED),
        LeaseAnswer::Gone => out.put_u8(GONE),
        LeaseAnswer::Remaining(remaining) => {
            out.put_u8(REMAINING);
            for left in remaining {
                let nanos = left.map(|left| u64::try_from(left.as_nanos()).unwrap_or(OVER - 1));
                out.put_u64_le(nanos.unwrap_or(OVER));
            }
        }
    }
}

fn answer(rest: &mut Bytes) -> Result<LeaseAnswer, Malformed> {
    match rest.try_get_u8() {
        Ok(REFUSED) => Ok(LeaseAnswer::Refused),
        Ok(GONE) => Ok(LeaseAnswer::Gone),
        Ok(REMAINING) => {
            let mut remaining = Vec::new();
            while !rest.is_empty() {
                remaining.push(Some(u64(rest)?).filter(|left| *left != OVER).map(Duration::from_nanos));
            }
            Ok(LeaseAnswer::Remaining(remaining))
        }
        _ => Err(Malformed("unknown answer about leases")),
    }
}

fn u64(rest: &mut Bytes) -> Result<u64, Malformed> {
    rest.try_get_u64_le().map_err(|_| Malformed("a message ends early"))
}

fn lease(rest: &mut Bytes) -> Result<ByTtl, Malformed> {
    let (ttl, id) = (u64(rest)?.cast_signed(), u64(rest)?.cast_signed());
    Ok(ByTtl { ttl, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::FRAME_HEADER_BYTES;

    fn decode(frame: &Bytes) -> Result<LeaseFrame, FrameError> {
        let header = FrameHeader::read(frame.first_chunk::<FRAME_HEADER_BYTES>().expect("a whole header"))?;
        LeaseFrame::decode(&header, frame.slice(FRAME_HEADER_BYTES..))
    }

    #[test]
    fn questions_and_answers_come_back_as_they_were_and_cut_ones_are_refused() {
        let lease = ByTtl { ttl: 10, id: -7 };
        let remaining = vec![Some(Duration::from_millis(1500)), None, Some(Duration::ZERO)];
        for sent in [
            LeaseFrame::Renew(1, lease),
            LeaseFrame::Remaining(2, vec![lease, ByTtl { ttl: 1, id: 5 }]),
            LeaseFrame::Remaining(3, Vec::new()),
            LeaseFrame::Told(4, LeaseAnswer::Refused),
            LeaseFrame::Told(u64::MAX, LeaseAnswer::Gone),
            LeaseFrame::Told(5, LeaseAnswer::Remaining(remaining)),
        ] {
            let mut out = BytesMut::new();
            sent.encode(GroupId(3), &mut out);
            let frame = out.freeze();
            assert!(is_about_leases(frame[8]));
            assert_eq!(decode(&frame), Ok(sent));
            for at in 8..frame.len() {
                let mut changed = frame.to_vec();
                changed[at] ^= 1;
                assert!(decode(&changed.into()).is_err(), "byte {at}");
            }
        }
    }
}
