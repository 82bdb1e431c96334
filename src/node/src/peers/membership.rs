//! Changes of the members on their way to the leader, which alone can propose them, and its refusals, as frames.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, codec::Malformed};
use plinth_kv::{Command, Envelope, MembersChange, ProposalId};

use super::frame::{FrameError, FrameHeader, put_frame};
use crate::message::Refusal;

const CHANGE_MEMBERS: u8 = 40;
const CHANGE_REFUSED: u8 = 41;

/// What a leader may say, each by its number on the wire.
const REASONS: [Refusal; 6] = [
    Refusal::LeaderChanged,
    Refusal::ChangeUnderWay,
    Refusal::NotEnoughStarted,
    Refusal::LearnerNotReady,
    Refusal::TooManyLearners,
    Refusal::TooManyMembers,
];

/// A change, or its refusal. That it was carried out its asker learns by applying it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipFrame {
    /// Propose this, by this name. Who votes afterwards the leader finds out.
    Change(ProposalId, MembersChange),
    /// The change of this number is not proposed, and why.
    Refused(u64, Refusal),
}

/// Whether a frame of this kind is one.
#[must_use]
pub fn is_about_members(kind: u8) -> bool {
    (CHANGE_MEMBERS..=CHANGE_REFUSED).contains(&kind)
}

impl MembershipFrame {
    /// Appends it as a frame.
    ///
    /// # Panics
    /// If a refusal is none that a leader gives.
    pub fn encode(&self, group: GroupId, out: &mut BytesMut) {
        match self {
            Self::Change(proposal, change) => put_frame(out, CHANGE_MEMBERS, group, |out| {
                let command = Command::ChangeMembers(change.clone());
                out.put_u64_le(proposal.number);
                out.put_slice(&Envelope { proposal: *proposal, command }.encode());
            }),
            Self::Refused(number, refusal) => put_frame(out, CHANGE_REFUSED, group, |out| {
                let reason = REASONS.iter().position(|reason| reason == refusal).expect("a reason of a leader");
                out.put_u64_le(*number);
                out.put_u8(u8::try_from(reason).expect("few"));
            }),
        }
    }

    /// What a frame holds.
    ///
    /// # Errors
    /// The payload isn't what was sent, or means nothing.
    pub fn decode(header: &FrameHeader, mut payload: Bytes) -> Result<Self, FrameError> {
        header.check(&payload)?;
        let number = payload.try_get_u64_le().map_err(|_| Malformed("a message ends early"))?;
        if header.kind() == CHANGE_REFUSED {
            return match payload[..] {
                [reason] if usize::from(reason) < REASONS.len() => {
                    Ok(Self::Refused(number, REASONS[usize::from(reason)]))
                }
                _ => Err(FrameError::Malformed("unknown refusal of a change")),
            };
        }
        match Envelope::decode(&payload)? {
            Envelope { proposal, command: Command::ChangeMembers(change) } if proposal.number == number => {
                Ok(Self::Change(proposal, change))
            }
            _ => Err(FrameError::Malformed("no change of the members")),
        }
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::MemberId;
    use plinth_kv::MemberRecord;

    use super::*;
    use crate::peers::FRAME_HEADER_BYTES;

    fn decode(frame: &Bytes) -> Result<MembershipFrame, FrameError> {
        let header = FrameHeader::read(frame.first_chunk::<FRAME_HEADER_BYTES>().expect("a whole header"))?;
        MembershipFrame::decode(&header, frame.slice(FRAME_HEADER_BYTES..))
    }

    #[test]
    fn changes_and_refusals_come_back_as_they_were_and_cut_ones_are_refused() {
        let member = MemberRecord { id: MemberId(7), peer_urls: vec!["http://a:1".to_owned()], ..Default::default() };
        let added = MembersChange { added: vec![member], ..MembersChange::default() };
        let removed = MembersChange { removed: vec![MemberId(3)], ..MembersChange::default() };
        let proposal = ProposalId { origin: 5, number: 9 };
        let changes = [added, removed].map(|change| MembershipFrame::Change(proposal, change));
        for sent in changes.into_iter().chain(REASONS.map(|reason| MembershipFrame::Refused(9, reason))) {
            let mut out = BytesMut::new();
            sent.encode(GroupId(3), &mut out);
            let frame = out.freeze();
            assert!(is_about_members(frame[8]));
            assert_eq!(decode(&frame), Ok(sent));
            for at in 8..frame.len() {
                let mut changed = frame.to_vec();
                changed[at] ^= 1;
                assert!(decode(&changed.into()).is_err(), "byte {at}");
            }
        }
    }
}
