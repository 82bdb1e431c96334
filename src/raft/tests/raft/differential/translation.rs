//! What the two crates say in different words.

use bytes::Bytes;
use plinth_base::{LogIndex, MemberId, Term};
use plinth_raft::{Body, Entry, Message, Position};
use raft::{
    CAMPAIGN_TRANSFER,
    eraftpb::{self, MessageType},
};

fn their_entry(entry: Entry) -> eraftpb::Entry {
    let Entry { index, term, payload, .. } = entry;
    eraftpb::Entry { index: index.0, term: term.0, data: payload.to_vec(), ..Default::default() }
}

/// A round of reads travels as context, which comes back with the answer.
fn context(round: u64) -> Vec<u8> {
    if round == 0 { Vec::new() } else { round.to_le_bytes().to_vec() }
}

fn round(context: &[u8]) -> u64 {
    context.try_into().map_or(0, u64::from_le_bytes)
}

pub(super) fn to_theirs(message: Message) -> eraftpb::Message {
    let Message { from, to, term, body } = message;
    let mut out = eraftpb::Message { from: from.0, to: to.0, term: term.0, ..Default::default() };
    let kind = match body {
        Body::PreVote { next_term, last, commit } => {
            out.term = next_term.0;
            (out.index, out.log_term) = (last.index.0, last.term.0);
            (out.commit, out.commit_term) = (commit.index.0, commit.term.0);
            MessageType::MsgRequestPreVote
        }
        Body::PreVoteReply { next_term, granted, commit, .. } => {
            // A yes is of the term that was asked for, a no of the own one.
            out.term = if granted { next_term.0 } else { term.0 };
            out.reject = !granted;
            (out.commit, out.commit_term) = (commit.index.0, commit.term.0);
            MessageType::MsgRequestPreVoteResponse
        }
        Body::Vote { last, is_handover, commit } => {
            (out.index, out.log_term) = (last.index.0, last.term.0);
            (out.commit, out.commit_term) = (commit.index.0, commit.term.0);
            if is_handover {
                out.context = CAMPAIGN_TRANSFER.to_vec();
            }
            MessageType::MsgRequestVote
        }
        Body::VoteReply { granted, commit, .. } => {
            out.reject = !granted;
            (out.commit, out.commit_term) = (commit.index.0, commit.term.0);
            MessageType::MsgRequestVoteResponse
        }
        Body::Heartbeat { commit, round } => {
            (out.commit, out.context) = (commit.0, context(round));
            MessageType::MsgHeartbeat
        }
        Body::HeartbeatReply { round } => {
            out.context = context(round);
            MessageType::MsgHeartbeatResponse
        }
        Body::Append { previous, commit, entries } => {
            (out.index, out.log_term, out.commit) = (previous.index.0, previous.term.0, commit.0);
            out.entries = entries.into_iter().map(their_entry).collect();
            MessageType::MsgAppend
        }
        Body::Commit { previous, commit } => {
            (out.index, out.log_term, out.commit) = (previous.index.0, previous.term.0, commit.0);
            MessageType::MsgAppend
        }
        Body::AppendReply { durable, .. } => {
            out.index = durable.0;
            MessageType::MsgAppendResponse
        }
        Body::AppendRefused { probed, hint } => {
            (out.index, out.reject) = (probed.0, true);
            (out.reject_hint, out.log_term) = (hint.index.0, hint.term.0);
            MessageType::MsgAppendResponse
        }
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::Propose { payload, .. } => {
            out.term = 0;
            out.entries = vec![eraftpb::Entry { data: payload.to_vec(), ..Default::default() }];
            MessageType::MsgPropose
        }
        // The other kind has no word for it, and takes no notice of this one.
        Body::ProposeRefused { .. } => MessageType::MsgUnreachable,
        other => panic!("{other:?} is not part of what both know"),
    };
    out.set_msg_type(kind);
    out
}

/// `term` is the receiver's.
pub(super) fn to_ours(message: &eraftpb::Message, term: Term) -> Message {
    let position = |index, term| Position { index: LogIndex(index), term: Term(term) };
    let (last, commit) = (position(message.index, message.log_term), position(message.commit, message.commit_term));
    let mut sender_term = message.term;
    let body = match message.get_msg_type() {
        MessageType::MsgRequestPreVote => {
            sender_term -= 1;
            Body::PreVote { next_term: Term(message.term), last, commit }
        }
        MessageType::MsgRequestPreVoteResponse if message.reject => {
            Body::PreVoteReply { next_term: Term(term.0 + 1), granted: false, is_doubtful: false, commit }
        }
        MessageType::MsgRequestPreVoteResponse => {
            // Whoever says yes doesn't say in which term it is; it is none that matters.
            sender_term = 0;
            Body::PreVoteReply { next_term: Term(message.term), granted: true, is_doubtful: false, commit }
        }
        MessageType::MsgRequestVote => Body::Vote { last, is_handover: *message.context == *CAMPAIGN_TRANSFER, commit },
        MessageType::MsgRequestVoteResponse => Body::VoteReply { granted: !message.reject, is_doubtful: false, commit },
        MessageType::MsgHeartbeat => {
            Body::Heartbeat { commit: LogIndex(message.commit), round: round(&message.context) }
        }
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply { round: round(&message.context) },
        MessageType::MsgAppend => {
            let entry = |entry: &eraftpb::Entry| Entry {
                index: LogIndex(entry.index),
                term: Term(entry.term),
                is_change: false,
                payload: Bytes::from(entry.data.to_vec()),
            };
            let entries = message.entries.iter().map(entry).collect();
            Body::Append { previous: last, commit: LogIndex(message.commit), entries }
        }
        MessageType::MsgAppendResponse if message.reject => {
            let hint = position(message.reject_hint, message.log_term);
            Body::AppendRefused { probed: LogIndex(message.index), hint }
        }
        MessageType::MsgAppendResponse => {
            Body::AppendReply { received: LogIndex(message.index), durable: LogIndex(message.index) }
        }
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgPropose => {
            // In no term; the receiver takes it in any.
            sender_term = 0;
            Body::Propose { ticket: 0, payload: Bytes::from(message.entries[0].data.to_vec()) }
        }
        MessageType::MsgUnreachable => Body::ProposeRefused { ticket: 0 },
        other => panic!("{other:?} is not part of what both know"),
    };
    Message { from: MemberId(message.from), to: MemberId(message.to), term: Term(sender_term), body }
}
