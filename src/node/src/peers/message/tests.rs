use plinth_base::Prng;

use super::{super::frame::FRAME_HEADER_BYTES, *};

fn at(index: u64, term: u64) -> Position {
    Position { index: LogIndex(index), term: Term(term) }
}

/// One message of every kind.
fn bodies() -> Vec<Body> {
    let entry = |index, term, is_change| Entry {
        index: LogIndex(index),
        term: Term(term),
        is_change,
        payload: Bytes::from(vec![7; usize::try_from(index).expect("small")]),
    };
    let (commit, ticket) = (at(8, 2), 77);
    vec![
        Body::PreVote { next_term: Term(4), last: at(9, 3), commit },
        Body::PreVoteReply { next_term: Term(4), granted: true, is_doubtful: false, commit },
        Body::Vote { last: at(9, 3), is_handover: true, commit },
        Body::VoteReply { granted: false, is_doubtful: true, commit },
        Body::Heartbeat { commit: LogIndex(8), round: 5 },
        Body::HeartbeatReply { round: 5 },
        Body::Append {
            previous: at(9, 3),
            commit: LogIndex(8),
            entries: vec![entry(10, 3, false), entry(11, 4, true)],
        },
        Body::Append { previous: at(0, 0), commit: LogIndex(0), entries: Vec::new() },
        Body::AppendReply { received: LogIndex(11), durable: LogIndex(10) },
        Body::AppendRefused { probed: LogIndex(9), hint: at(4, 1) },
        Body::TimeoutNow,
        Body::Propose { ticket, payload: Bytes::from_static(b"put") },
        Body::ProposeRefused { ticket },
        Body::ReadIndex { ticket },
        Body::ReadIndexReply { ticket, index: LogIndex(8) },
        Body::ReadIndexRefused { ticket },
        Body::Commit { previous: at(9, 3), commit: LogIndex(8) },
    ]
}

fn encoded(body: Body) -> (Message, BytesMut) {
    let message = Message { from: MemberId(1), to: MemberId(2), term: Term(4), body };
    let mut out = BytesMut::new();
    encode(GroupId(9), &message, &mut out);
    (message, out)
}

fn decoded(bytes: &[u8]) -> Result<Message, FrameError> {
    let header = FrameHeader::read(bytes.first_chunk().expect("a header"))?;
    decode(&header, Bytes::copy_from_slice(&bytes[FRAME_HEADER_BYTES..]), MemberId(1), MemberId(2))
}

#[test]
fn every_message_comes_back_as_it_was() {
    let mut kinds = Vec::new();
    for body in bodies() {
        let (message, bytes) = encoded(body);
        assert_eq!(decoded(&bytes), Ok(message));
        kinds.push(bytes[8]);
    }
    kinds.dedup();
    assert_eq!(kinds, (PRE_VOTE..=COMMIT).collect::<Vec<_>>(), "all kinds are there");
}

/// Sound frames with payloads that mean nothing: an error, or a message that is one.
#[test]
fn hostile_payloads_are_refused_or_are_messages() {
    let mut prng = Prng::new(11);
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..20_000 {
        let all = bodies();
        let (_, bytes) = encoded(all[prng.index(all.len())].clone());
        let mut payload = bytes[FRAME_HEADER_BYTES..].to_vec();
        for _ in 0..=prng.index(3) {
            if payload.is_empty() || prng.chance(1, 4) {
                payload.truncate(prng.index(payload.len() + 1));
            } else {
                let at = prng.index(payload.len());
                payload[at] = prng.next_u64() as u8;
            }
        }
        let mut out = BytesMut::new();
        let kind = if prng.chance(1, 10) { prng.next_u64() as u8 } else { bytes[8] };
        put_frame(&mut out, kind, GroupId(0), |out| out.put_slice(&payload));
        match decoded(&out) {
            Ok(message) => {
                let mut again = BytesMut::new();
                encode(GroupId(0), &message, &mut again);
                assert_eq!(again, out, "a message has one form");
                taken += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000 && taken > 1000, "{refused} refused, {taken} taken");
}
