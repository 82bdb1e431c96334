use super::*;

fn start(last: u64, term: u64, applied: u64) -> Start {
    Start {
        id: MemberId(7),
        hard_state: HardState { term: Term(term), vote: None, commit: LogIndex(applied) },
        last: LogIndex(last),
        last_term: Term(term),
        applied: LogIndex(applied),
        applied_term: Term(term),
    }
}

fn step(raft: &mut Raft, input: Input) -> Effects {
    let mut effects = Effects::default();
    raft.step(input, &mut effects);
    effects
}

fn durable(raft: &mut Raft, index: u64) -> Effects {
    let hard_state = raft.hard_state();
    step(raft, Input::Durable { index: LogIndex(index), hard_state })
}

fn leader() -> Raft {
    let mut raft = Raft::new(start(3, 4, 3));
    step(&mut raft, Input::ElectionTimeout);
    durable(&mut raft, 3);
    durable(&mut raft, 4);
    raft
}

#[test]
fn a_vote_counts_only_when_it_is_durable() {
    let mut raft = Raft::new(start(3, 4, 3));
    let effects = step(&mut raft, Input::ElectionTimeout);
    let voted = effects.hard_state.expect("a candidate logs its term and vote");
    assert_eq!((voted.term, voted.vote), (Term(5), Some(MemberId(7))));
    assert_eq!(raft.role(), Role::Candidate);
    assert!(effects.entries.is_empty());

    // Something older became durable: no reason to lead.
    let old = HardState { term: Term(4), vote: None, commit: LogIndex(3) };
    step(&mut raft, Input::Durable { index: LogIndex(3), hard_state: old });
    assert_eq!(raft.role(), Role::Candidate);

    let effects = durable(&mut raft, 3);
    assert_eq!(raft.role(), Role::Leader);
    assert_eq!(effects.entries, [Entry { index: LogIndex(4), term: Term(5), payload: Bytes::new() }]);
}

#[test]
fn entries_of_earlier_terms_are_committed_by_the_leaders_own() {
    let mut raft = Raft::new(start(9, 4, 3));
    step(&mut raft, Input::ElectionTimeout);
    let effects = durable(&mut raft, 9);
    assert_eq!(effects.committed, None, "entries 4 to 9 are durable, but of an earlier term");
    assert_eq!(durable(&mut raft, 10).committed, Some(LogIndex(10)));
}

#[test]
fn a_proposal_is_committed_when_it_is_durable_and_not_before() {
    let mut raft = leader();
    let effects = step(&mut raft, Input::Propose { ticket: 1, payload: Bytes::from_static(b"put") });
    assert_eq!(effects.accepted, [(1, LogIndex(5))]);
    assert_eq!(effects.committed, None);
    assert_eq!(durable(&mut raft, 5).committed, Some(LogIndex(5)));
}

#[test]
fn reads_wait_for_the_first_commit_of_the_term() {
    let mut raft = Raft::new(start(3, 4, 3));
    assert_eq!(step(&mut raft, Input::ReadIndex { ticket: 1 }).rejected, [Rejected { ticket: 1 }]);
    step(&mut raft, Input::ElectionTimeout);
    durable(&mut raft, 3);
    assert!(step(&mut raft, Input::ReadIndex { ticket: 2 }).reads.is_empty());
    assert_eq!(durable(&mut raft, 4).reads, [ReadReady { ticket: 2, index: LogIndex(4) }]);
    assert_eq!(step(&mut raft, Input::ReadIndex { ticket: 3 }).reads, [ReadReady { ticket: 3, index: LogIndex(4) }]);
}

#[test]
fn a_root_ahead_of_the_log_moves_the_log_behind_it() {
    let mut from = start(3, 4, 8);
    from.applied_term = Term(6);
    from.hard_state = HardState { term: Term(4), vote: Some(MemberId(9)), commit: LogIndex(3) };
    let raft = Raft::new(from);
    assert_eq!((raft.last(), raft.term(), raft.commit()), (LogIndex(8), Term(6), LogIndex(8)));
    assert_eq!(raft.hard_state().vote, None, "the vote was of an earlier term");
}

#[test]
fn a_member_without_a_leader_refuses_proposals() {
    let mut raft = Raft::new(start(3, 4, 3));
    let effects = step(&mut raft, Input::Propose { ticket: 5, payload: Bytes::from_static(b"x") });
    assert_eq!(effects.rejected, [Rejected { ticket: 5 }]);
    assert!(effects.entries.is_empty());
}
