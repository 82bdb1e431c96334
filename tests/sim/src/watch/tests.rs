//! Recordings of watchers, sound and unsound.

use super::*;
use crate::model::{DeleteRange, Put, Request, Txn};

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

fn delete(key: &str, range_end: &str) -> Request {
    Request::DeleteRange(DeleteRange { key: key.into(), range_end: range_end.into(), prev_kv: false })
}

/// Revisions: 2 puts a, 3 puts b, 4 puts a and c, 5 deletes a and b, 6 puts x, 7 puts a.
fn history() -> Model {
    let mut model = Model::default();
    let both = Txn { success: vec![put("a", "2"), put("c", "1")], ..Txn::default() };
    for request in [put("a", "1"), put("b", "1"), Request::Txn(both), delete("a", "c"), put("x", "1"), put("a", "3")] {
        model.execute(&request).expect("nothing speaks against it");
    }
    assert_eq!(model.revision(), 7);
    model
}

/// Keys a to c from revision 2 on, with what was there before.
fn watch() -> Watch {
    Watch { key: "a".into(), range_end: "d".into(), start_revision: 2, prev_kv: true, ..Watch::default() }
}

const KNOWN: Circumstances =
    Circumstances { compacted_before: -1, compacted_after: -1, cancel_was_asked: false, all_until: 7 };

/// What a watcher is sent of each revision that concerns it.
fn events(watch: &Watch, model: &Model) -> Vec<(i64, Vec<Event>)> {
    let mut sent: Vec<(i64, Vec<Event>)> = Vec::new();
    for (main, _, written) in model.writes() {
        let filtered = if written.kv.is_some() { watch.no_put } else { watch.no_delete };
        if filtered || !contains(&watch.key, &watch.range_end, &written.key) {
            continue;
        }
        let gone = KeyValue { key: written.key.to_vec(), mod_revision: main, ..KeyValue::default() };
        let kv = written.kv.as_deref().cloned().unwrap_or(gone);
        let before = model.state_at(main - 1).and_then(|state| state.get(&written.key)).map(|kv| kv.as_ref().clone());
        let event = Event { is_put: written.kv.is_some(), kv, prev_kv: before.filter(|_| watch.prev_kv) };
        match sent.last_mut() {
            Some((last, events)) if *last == main => events.push(event),
            _ => sent.push((main, vec![event])),
        }
    }
    sent
}

/// A reply for each revision, behind the one that it was created.
fn replies(watch: &Watch) -> Vec<Reply> {
    let sent = events(watch, &history()).into_iter().filter(|(main, _)| *main >= watch.start_revision);
    let sent = sent.map(|(revision, events)| Reply::Events { revision, fragment: false, events });
    [Reply::Created { revision: 7 }].into_iter().chain(sent).collect()
}

fn verdict(replies: &[Reply]) -> Result<(), String> {
    check(&watch(), replies, &history(), KNOWN)
}

fn says(verdict: Result<(), String>, what: &str) {
    let told = verdict.expect_err("it is wrong");
    assert!(told.contains(what), "{told:?} doesn't say {what:?}");
}

fn events_of(reply: &mut Reply) -> &mut Vec<Event> {
    let Reply::Events { events, .. } = reply else { panic!("{reply:?} has no events") };
    events
}

#[test]
fn what_happened_in_order_is_right_also_when_revisions_share_a_reply() {
    assert_eq!(replies(&watch()).len(), 1 + 5);
    assert_eq!(verdict(&replies(&watch())), Ok(()));
    let all = events(&watch(), &history()).into_iter().flat_map(|(_, events)| events).collect();
    let one = [Reply::Created { revision: 7 }, Reply::Events { revision: 7, fragment: false, events: all }];
    assert_eq!(verdict(&one), Ok(()));
}

#[test]
fn filters_and_starts_leave_out_what_they_say() {
    for watch in [
        Watch { no_put: true, ..watch() },
        Watch { no_delete: true, ..watch() },
        Watch { prev_kv: false, ..watch() },
        Watch { start_revision: 5, ..watch() },
        Watch { key: "x".into(), range_end: Vec::new(), ..watch() },
    ] {
        assert_eq!(check(&watch, &replies(&watch), &history(), KNOWN), Ok(()), "{watch:?}");
    }
    // Created at revision 6, from the next one on.
    let last = replies(&watch()).pop().expect("there are some");
    let from_now = Watch { start_revision: 0, ..watch() };
    assert_eq!(check(&from_now, &[Reply::Created { revision: 6 }, last], &history(), KNOWN), Ok(()));
}

#[test]
fn a_gap_a_double_and_a_swap_are_found() {
    let mut gap = replies(&watch());
    gap.remove(2);
    says(verdict(&gap), "reply 2: expected");
    let mut double = replies(&watch());
    double.insert(2, double[2].clone());
    says(verdict(&double), "reply 3: expected");
    let mut swap = replies(&watch());
    swap.swap(2, 3);
    says(verdict(&swap), "reply 2: expected");
    let mut end = replies(&watch());
    end.pop();
    says(verdict(&end), "never came");
    let mut more = replies(&watch());
    more.push(more[5].clone());
    says(verdict(&more), "nothing more happened");
}

#[test]
fn half_a_revision_is_found_unless_it_is_a_fragment() {
    let mut halves = replies(&watch());
    let second = events_of(&mut halves[3]).split_off(1);
    halves.insert(4, Reply::Events { revision: 4, fragment: false, events: second });
    says(verdict(&halves), "only a part of revision 4");
    let Reply::Events { fragment, .. } = &mut halves[3] else { panic!("events are there") };
    *fragment = true;
    assert_eq!(verdict(&halves), Ok(()));
    halves.insert(4, Reply::Progress { revision: 3 });
    says(verdict(&halves), "the rest of a reply is missing");
}

#[test]
fn events_that_say_something_else_are_found() {
    let change = |change: fn(&mut Event)| {
        let mut replies = replies(&watch());
        change(&mut events_of(&mut replies[3])[0]);
        verdict(&replies)
    };
    says(change(|event| event.kv.value = b"3".to_vec()), "expected");
    says(change(|event| event.kv.version = 1), "expected");
    says(change(|event| event.is_put = false), "expected");
    says(change(|event| event.prev_kv = None), "the pair before");
    says(change(|event| event.prev_kv = Some(KeyValue::default())), "the pair before");
    let mut header = replies(&watch());
    let Reply::Events { revision, .. } = &mut header[3] else { panic!("events are there") };
    *revision = 3;
    says(verdict(&header), "its header says 3");
    let mut empty = replies(&watch());
    empty.insert(1, Reply::Events { revision: 2, fragment: false, events: Vec::new() });
    says(verdict(&empty), "no events");
}

#[test]
fn the_pair_before_is_left_out_when_it_is_compacted() {
    let mut without = replies(&watch());
    // Revision 4 put a anew, whose version before was of revision 2.
    events_of(&mut without[3])[0].prev_kv = None;
    let at = |compacted_before, compacted_after| Circumstances { compacted_before, compacted_after, ..KNOWN };
    assert_eq!(check(&watch(), &without, &history(), at(-1, 4)), Ok(()));
    assert_eq!(check(&watch(), &without, &history(), at(4, 4)), Ok(()));
    says(check(&watch(), &without, &history(), at(-1, 3)), "the pair before");
    says(check(&watch(), &replies(&watch()), &history(), at(4, 4)), "the pair before");
}

#[test]
fn progress_is_never_ahead_of_events_to_come() {
    let with = |place: usize, revision| {
        let mut replies = replies(&watch());
        replies.insert(place, Reply::Progress { revision });
        verdict(&replies)
    };
    // Revision 6 doesn't concern the watcher.
    assert_eq!([with(5, 5), with(5, 6), with(6, 7), with(1, 1)], [const { Ok(()) }; 4]);
    says(with(5, 7), "all is sent up to 7");
    says(with(1, 2), "all is sent up to 2");
    says(with(6, 8), "which never was");
}

#[test]
fn an_end_has_its_reason_and_is_the_end() {
    let ended = |sent: usize, compact_revision, known| {
        let mut replies = replies(&watch());
        replies.truncate(1 + sent);
        replies.push(Reply::Canceled { compact_revision });
        check(&watch(), &replies, &history(), known)
    };
    let compacted = Circumstances { compacted_after: 5, ..KNOWN };
    assert_eq!(ended(0, 5, compacted), Ok(()));
    says(ended(0, 6, compacted), "which isn't so");
    says(ended(4, 5, compacted), "which compacting 5 leaves");
    says(ended(3, 5, compacted), "which compacting 5 leaves");
    assert_eq!(ended(2, 5, compacted), Ok(()));
    says(ended(2, 0, KNOWN), "nobody asked");
    assert_eq!(ended(2, 0, Circumstances { cancel_was_asked: true, ..KNOWN }), Ok(()));
    let mut after = replies(&watch());
    after.insert(3, Reply::Canceled { compact_revision: 5 });
    says(check(&watch(), &after, &history(), compacted), "it was cancelled, and then came");
}

#[test]
fn the_first_reply_says_that_it_is_created() {
    assert_eq!(verdict(&[]), Ok(()));
    says(verdict(&replies(&watch())[1..]), "the first reply");
    says(verdict(&[Reply::Created { revision: 7 }, Reply::Created { revision: 7 }]), "created twice");
}

#[test]
fn a_put_that_ended_in_its_own_revision_may_be_missing_once_that_is_compacted() {
    let mut model = Model::default();
    // Revision 2 puts a and deletes it at once: etcd doesn't look for that in nested transactions.
    let nested = |request| Request::Txn(Txn { success: vec![request], ..Txn::default() });
    let gap = Txn { success: vec![nested(put("a", "1")), nested(delete("a", ""))], ..Txn::default() };
    model.execute(&Request::Txn(gap)).expect("nothing speaks against it");
    let sent = events(&watch(), &model).remove(0).1;
    assert_eq!(sent.len(), 2);
    let verdict = |events: &[Event], compacted_after| {
        let events = Reply::Events { revision: 2, fragment: false, events: events.to_vec() };
        let known = Circumstances { compacted_after, all_until: 2, ..KNOWN };
        check(&watch(), &[Reply::Created { revision: 2 }, events], &model, known)
    };
    assert_eq!((verdict(&sent, -1), verdict(&sent, 2)), (Ok(()), Ok(())));
    assert_eq!(verdict(&sent[1..], 2), Ok(()));
    assert!(verdict(&sent[1..], 1).is_err());
    assert!(verdict(&sent[..1], 2).is_err());
}
