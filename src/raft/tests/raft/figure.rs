//! Members, messages and states as text, and configurations back from it.

use plinth_base::MemberId;
use plinth_raft::{Body, Configuration, Entry, Message, Position, Raft, Role};

pub fn position(position: Position) -> String {
    format!("{}/{}", position.index.0, position.term.0)
}

fn ids(ids: &[MemberId]) -> String {
    ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(" ")
}

/// `1 2 3, outgoing 1 2, learners 4, awaited 4`.
pub fn configuration(configuration: &Configuration) -> String {
    let Configuration { voters, outgoing, learners, awaited } = configuration;
    let mut text = ids(voters);
    for (name, list) in [("outgoing", outgoing), ("learners", learners), ("awaited", awaited)] {
        if !list.is_empty() {
            text += &format!(", {name} {}", ids(list));
        }
    }
    text
}

pub fn parse_configuration(payload: &[u8]) -> Configuration {
    let text = std::str::from_utf8(payload).expect("text");
    let mut configuration = Configuration::default();
    for part in text.split(", ") {
        let list = match part.split(' ').next().expect("not empty") {
            "outgoing" => &mut configuration.outgoing,
            "learners" => &mut configuration.learners,
            "awaited" => &mut configuration.awaited,
            _ => &mut configuration.voters,
        };
        list.extend(part.split(' ').filter_map(|word| word.parse().ok()).map(MemberId));
    }
    configuration
}

fn entries(entries: &[Entry]) -> String {
    match entries {
        [] => String::new(),
        [one] => format!(" with {}", position(one.position())),
        [first, .., last] => format!(" with {} to {}", position(first.position()), position(last.position())),
    }
}

pub fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let yes_or_no = |granted: bool, is_doubtful: bool| match (granted, is_doubtful) {
        (true, false) => "yes",
        (true, true) => "yes, in doubt",
        (false, _) => "no",
    };
    let body = match body {
        Body::PreVote { next_term, last, .. } => {
            format!("PreVote for term {}, log ends at {}", next_term.0, position(*last))
        }
        Body::PreVoteReply { granted, is_doubtful, .. } => {
            format!("PreVoteReply {}", yes_or_no(*granted, *is_doubtful))
        }
        Body::Vote { last, is_handover, .. } => {
            format!("Vote{}, log ends at {}", if *is_handover { " (handover)" } else { "" }, position(*last))
        }
        Body::VoteReply { granted, is_doubtful, .. } => format!("VoteReply {}", yes_or_no(*granted, *is_doubtful)),
        Body::Heartbeat { commit, round } => format!("Heartbeat commit {} round {round}", commit.0),
        Body::HeartbeatReply { round } => format!("HeartbeatReply round {round}"),
        Body::Append { previous, commit, entries: of } => {
            format!("Append behind {} commit {}{}", position(*previous), commit.0, entries(of))
        }
        Body::Commit { previous, commit } => format!("Commit {} behind {}", commit.0, position(*previous)),
        Body::AppendReply { received, durable } => format!("AppendReply {} durable {}", received.0, durable.0),
        Body::AppendRefused { probed, hint } => format!("AppendRefused {} hint {}", probed.0, position(*hint)),
        Body::TimeoutNow => "TimeoutNow".to_owned(),
        Body::Propose { ticket, .. } => format!("Propose {ticket}"),
        Body::ProposeRefused { ticket } => format!("ProposeRefused {ticket}"),
        Body::ReadIndex { ticket } => format!("ReadIndex {ticket}"),
        Body::ReadIndexReply { ticket, index } => format!("ReadIndexReply {ticket} at {}", index.0),
        Body::ReadIndexRefused { ticket } => format!("ReadIndexRefused {ticket}"),
    };
    format!("{} -> {} term {}: {body}", from.0, to.0, term.0)
}

pub fn status(raft: &Raft) -> String {
    let role = match raft.role() {
        Role::Follower => raft.leader().map_or("follower".to_owned(), |leader| format!("follower of {}", leader.0)),
        Role::PreCandidate => "pre-candidate".to_owned(),
        Role::Candidate => "candidate".to_owned(),
        Role::Leader => "leader".to_owned(),
    };
    let vote = raft.hard_state().vote.map_or("-".to_owned(), |vote| vote.0.to_string());
    let doubt = if raft.hard_state().is_doubtful { ", in doubt" } else { "" };
    format!(
        "{}: {role}, term {}, vote {vote}, log ends at {}, durable {}, commit {}{doubt}",
        raft.id().0,
        raft.term().0,
        position(raft.last()),
        raft.durable().0,
        raft.commit().0
    )
}
