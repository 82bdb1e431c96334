use bytes::Bytes;

use super::*;

fn at(index: u64, term: u64) -> Position {
    Position { index: LogIndex(index), term: Term(term) }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), is_change: false, payload: Bytes::from_static(b"12") }
}

/// Entries 1 to `terms.len()`.
fn log(terms: &[u64]) -> Log {
    let mut log = Log::new(VecDeque::from([at(0, 0)]), VecDeque::new(), LogIndex(0), 4 * (2 + ENTRY_OVERHEAD_BYTES));
    for (index, term) in terms.iter().enumerate() {
        log.push(entry(index as u64 + 1, *term));
    }
    log
}

fn indexes(slice: Slice) -> Vec<u64> {
    match slice {
        Slice::Entries(entries) => entries.iter().map(|entry| entry.index.0).collect(),
        other => panic!("{other:?} holds no entries"),
    }
}

#[test]
fn terms_are_known_from_the_start_to_the_end() {
    let log = log(&[1, 1, 3, 3, 4]);
    let terms: Vec<_> = (0..7).map(|index| log.term_of(LogIndex(index)).map(|term| term.0)).collect();
    assert_eq!(terms, [Some(0), Some(1), Some(1), Some(3), Some(3), Some(4), None]);
    assert_eq!(log.last(), at(5, 4));
}

#[test]
fn a_refusal_names_the_newest_entry_that_may_agree() {
    let log = log(&[1, 1, 3, 3, 4]);
    assert_eq!(log.newest_that_may_agree(at(9, 9)), at(5, 4));
    assert_eq!(log.newest_that_may_agree(at(5, 3)), at(4, 3));
    assert_eq!(log.newest_that_may_agree(at(4, 2)), at(2, 1));
    assert_eq!(log.newest_that_may_agree(at(1, 1)), at(1, 1));
    assert_eq!(log.newest_that_may_agree(at(5, 0)), at(0, 0));
}

#[test]
fn what_is_cut_off_is_neither_durable_nor_in_memory() {
    let mut log = log(&[1, 1, 3, 3]);
    assert!(log.make_durable(at(4, 3)));
    log.cut(LogIndex(3));
    assert_eq!((log.last(), log.durable()), (at(2, 1), LogIndex(2)));
    log.push(entry(3, 5));
    assert!(!log.make_durable(at(4, 3)), "that entry was replaced");
    assert!(!log.make_durable(at(3, 3)), "and so was this one");
    assert!(log.make_durable(at(3, 5)));
    assert_eq!(indexes(log.slice(LogIndex(1), usize::MAX)), [1, 2, 3]);
}

#[test]
fn durable_entries_beyond_the_limit_leave_memory_and_others_stay() {
    let mut log = log(&[1, 1, 1, 1, 1, 1, 1, 1]);
    log.trim(false);
    assert_eq!(indexes(log.slice(LogIndex(1), usize::MAX)).len(), 8, "none of them is durable");
    log.make_durable(at(6, 1));
    log.trim(false);
    assert!(matches!(log.slice(LogIndex(4), usize::MAX), Slice::NotInMemory));
    assert_eq!(indexes(log.slice(LogIndex(5), usize::MAX)), [5, 6, 7, 8]);
    log.trim(true);
    assert_eq!(indexes(log.slice(LogIndex(7), usize::MAX)), [7, 8]);
}

#[test]
fn a_slice_has_at_least_one_entry_and_no_more_than_fit() {
    let log = log(&[1, 1, 1, 1]);
    assert_eq!(indexes(log.slice(LogIndex(2), 0)), [2]);
    assert_eq!(indexes(log.slice(LogIndex(2), 2 * (2 + ENTRY_OVERHEAD_BYTES))), [2, 3]);
    assert!(matches!(log.slice(LogIndex(0), 10), Slice::Gone));
}

#[test]
fn released_entries_are_gone_and_the_last_ones_term_is_known() {
    let mut log = log(&[1, 1, 3, 3, 4]);
    log.make_durable(at(4, 3));
    log.release(LogIndex(3));
    assert_eq!(log.start(), at(3, 3));
    assert_eq!((log.term_of(LogIndex(2)), log.term_of(LogIndex(3))), (None, Some(Term(3))));
    log.release(LogIndex(99));
    assert_eq!(log.start(), at(4, 3), "what isn't durable stays");
}

#[test]
fn changes_of_the_members_are_known_until_they_are_applied_or_cut_off() {
    let mut log = log(&[1]);
    for index in [2, 3, 4] {
        log.push(Entry { is_change: index != 3, ..entry(index, 1) });
    }
    assert_eq!((log.next_change(), log.newest_change()), (Some(LogIndex(2)), Some(LogIndex(4))));
    assert_eq!(log.newest_change_but_one(), Some(LogIndex(2)));
    assert!(log.has_changes_within(LogIndex(1), LogIndex(2)) && !log.has_changes_within(LogIndex(2), LogIndex(3)));
    log.cut(LogIndex(4));
    assert!(!log.has_changes_behind(LogIndex(2)));
    log.forget_changes(LogIndex(2));
    assert_eq!(log.next_change(), None);
}
