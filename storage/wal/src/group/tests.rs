use super::*;

fn at(index: u64, term: u64) -> Position {
    Position { index: LogIndex(index), term: Term(term) }
}

fn place(segment: u64, block: u32) -> Place {
    Place { segment, block }
}

fn filled(last: u64) -> Group {
    let mut group = Group::default();
    group.restart(at(0, 0));
    for index in 1..=last {
        group.push_entry(at(index, 1));
    }
    group
}

fn note(group: &Group, low: u64) -> Effect {
    let mut effects = Effects::default();
    effects.note_entry(GroupId(0), group.tail, false);
    let effect = *effects.iter().next().expect("one was noted");
    Effect { low: Some(LogIndex(low)), ..effect }
}

#[test]
fn terms_are_known_from_the_last_released_entry_to_the_tail() {
    let mut group = filled(10);
    group.push_entry(at(11, 4));
    group.push_entry(at(12, 4));
    group.durable = group.tail;
    assert_eq!(group.term_of(LogIndex(0)), Some(Term(0)));
    assert_eq!(group.term_of(LogIndex(10)), Some(Term(1)));
    assert_eq!(group.term_of(LogIndex(12)), Some(Term(4)));
    assert_eq!(group.term_of(LogIndex(13)), None);
    group.release(LogIndex(5));
    assert_eq!((group.term_of(LogIndex(4)), group.term_of(LogIndex(5))), (None, Some(Term(1))));
    group.release(LogIndex(11));
    assert_eq!((group.term_of(LogIndex(10)), group.term_of(LogIndex(11))), (None, Some(Term(4))));
    group.push_entry(at(12, 6));
    assert_eq!(group.term_of(LogIndex(12)), Some(Term(6)));
}

#[test]
fn more_than_the_durable_log_is_released_only_as_far_as_it_goes() {
    let mut group = filled(3);
    group.durable.last = at(2, 1);
    group.release(LogIndex(99));
    assert_eq!(group.released, LogIndex(2));
}

#[test]
#[should_panic(expected = "no gaps in a log")]
fn entry_behind_a_gap_is_a_broken_invariant() {
    filled(3).push_entry(at(5, 1));
}

#[test]
fn spans_are_kept_sparse_and_replaced_tails_drop_theirs() {
    let mut group = filled(0);
    for block in 0..64 {
        let index = u64::from(block) + 1;
        group.push_entry(at(index, 1));
        let effect = note(&group, index);
        group.apply(&effect, place(1, block), None);
    }
    assert_eq!(group.spans.len(), 4, "one each 64 KiB");
    group.push_entry(at(20, 2));
    let effect = note(&group, 20);
    group.apply(&effect, place(1, 64), None);
    let firsts: Vec<_> = group.spans.iter().map(|span| span.first.0).collect();
    assert_eq!(firsts, [1, 17, 20]);
    assert_eq!(group.spans.back().map(|span| span.place), Some(place(1, 64)));
    group.push_entry(at(21, 2));
    let effect = note(&group, 21);
    group.apply(&effect, place(2, 1), None);
    assert_eq!(group.spans.len(), 4, "another segment has a span of its own");
    group.release(LogIndex(20));
    assert_eq!(group.oldest_segment_needed(), Some(2));
    group.forget_segment(1);
    assert_eq!(group.first_index(), LogIndex(21));
    group.release(LogIndex(21));
    assert_eq!(group.oldest_segment_needed(), None);
}

#[test]
fn new_start_voids_what_the_same_batch_held_before_it() {
    let mut group = filled(4);
    let mut effects = Effects::default();
    effects.note_entry(GroupId(0), group.tail, false);
    group.restart(at(9, 2));
    effects.note_start(GroupId(0), group.tail);
    let effect = *effects.iter().next().expect("one was noted");
    assert_eq!((effect.lowest(), effect.restarted), (None, true));
    group.apply(&effect, place(1, 1), None);
    assert_eq!((group.first_index(), group.oldest_segment_needed()), (LogIndex(10), None));
}
