use super::*;

const WINDOW: usize = 100;

fn peer() -> Progress {
    Progress::new(LogIndex(10), Instant(0))
}

#[test]
fn a_new_peer_is_asked_once_and_then_gets_entries_without_waiting() {
    let mut peer = peer();
    assert_eq!((peer.next, peer.is_paused(WINDOW)), (LogIndex(11), false));
    peer.note_sent(LogIndex(11), 10, Instant(1));
    assert!(peer.is_paused(WINDOW), "one question at a time");
    peer.note_agreed(LogIndex(11), LogIndex(11), Instant(2));
    assert_eq!((peer.mode, peer.matched, peer.next), (Mode::Replicate, LogIndex(11), LogIndex(12)));
    peer.note_sent(LogIndex(12), 60, Instant(3));
    assert!(!peer.is_paused(WINDOW));
    peer.note_sent(LogIndex(13), 60, Instant(3));
    assert!(peer.is_paused(WINDOW), "the window is full");
    peer.note_agreed(LogIndex(13), LogIndex(12), Instant(4));
    assert_eq!((peer.is_paused(WINDOW), peer.room_bytes(WINDOW)), (false, 40), "what isn't durable there stays in it");
}

#[test]
fn a_refusal_leads_back_and_one_of_long_ago_to_nothing() {
    let mut peer = peer();
    peer.note_sent(LogIndex(11), 10, Instant(1));
    assert!(peer.note_refused(LogIndex(10), LogIndex(4)));
    assert_eq!((peer.next, peer.is_paused(WINDOW)), (LogIndex(5), false));
    assert!(!peer.note_refused(LogIndex(10), LogIndex(2)), "another question is open now");
    peer.note_agreed(LogIndex(8), LogIndex(8), Instant(2));
    assert!(!peer.note_refused(LogIndex(7), LogIndex(2)), "the peer has been further since");
    assert_eq!(peer.next, LogIndex(9));
}

#[test]
fn a_peer_that_lost_what_it_had_gets_it_again() {
    let mut peer = peer();
    peer.note_agreed(LogIndex(10), LogIndex(10), Instant(1));
    assert!(peer.note_refused(LogIndex(10), LogIndex(6)));
    assert_eq!((peer.matched, peer.next), (LogIndex(6), LogIndex(7)));
}

#[test]
fn a_peer_with_nothing_outstanding_has_answered() {
    let mut peer = peer();
    peer.note_agreed(LogIndex(10), LogIndex(10), Instant(1));
    peer.note_sent(LogIndex(11), 10, Instant(5));
    assert_eq!((peer.has_outstanding(), peer.answered), (true, Instant(5)));
    peer.note_sent(LogIndex(12), 10, Instant(7));
    assert_eq!(peer.answered, Instant(5), "something was outstanding already");
    peer.note_agreed(LogIndex(12), LogIndex(11), Instant(9));
    assert_eq!((peer.has_outstanding(), peer.answered), (true, Instant(9)), "its disk may be slow, its lane isn't");
    peer.note_agreed(LogIndex(12), LogIndex(12), Instant(11));
    assert_eq!((peer.has_outstanding(), peer.answered), (false, Instant(11)));
    peer.await_snapshot(Instant(10));
    assert!(peer.is_paused(WINDOW) && !peer.has_outstanding());
}
