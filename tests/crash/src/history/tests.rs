use std::convert::Infallible;

use bytes::Bytes;

use super::*;
use crate::model::Change;

fn put(key: &'static str, value: &'static str) -> Op {
    Op::One(Change::Put { key: Bytes::from_static(key.as_bytes()), value: Bytes::from_static(value.as_bytes()) })
}

fn delete(key: &'static str) -> Op {
    Op::One(Change::Delete { key: Bytes::from_static(key.as_bytes()), end: Bytes::new() })
}

/// A server with every revision it ever had.
#[derive(Clone)]
struct Server(Vec<State>);

impl Server {
    fn new() -> Self {
        Self(vec![State::default(); 2])
    }

    fn apply(&mut self, op: &Op) -> (Outcome, i64) {
        let mut state = self.0.last().expect("never empty").clone();
        let revision = self.0.len() as i64;
        let outcome = state.apply(op, revision);
        if !outcome.changed() {
            return (outcome, revision - 1);
        }
        self.0.push(state);
        (outcome, revision)
    }

    fn acknowledge(&mut self, history: &mut History, op: Op) {
        let (outcome, revision) = self.apply(&op);
        history.acknowledge(op, outcome, revision);
    }
}

fn check(history: &mut History, server: &Server) -> Result<Verified, String> {
    let newest_revision = server.0.len() as i64 - 1;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let fetch = async |at: i64| {
        let state = server.0[if at == 0 { newest_revision } else { at } as usize].clone();
        Ok::<_, Infallible>(Snapshot { newest_revision, state })
    };
    runtime.block_on(history.check(1, fetch, |_, _, _| Ok(()))).map_err(|error| match error {
        CheckError::Violation(violation) => violation.0,
        CheckError::Unreachable(never) => match never {},
    })
}

fn history_of_some_writes() -> (History, Server) {
    let (mut history, mut server) = (History::new(), Server::new());
    for op in [put("a", "1"), put("b", "1"), put("a", "2"), delete("b"), delete("none"), put("b", "2")] {
        server.acknowledge(&mut history, op);
    }
    (history, server)
}

#[test]
fn an_intact_store_is_sound_and_checks_go_on_from_there() {
    let (mut history, mut server) = history_of_some_writes();
    assert_eq!(history.acknowledged_count(), 5);
    assert_eq!(check(&mut history, &server), Ok(Verified { revision: 6, in_doubt_applied: 0 }));
    server.acknowledge(&mut history, delete("a"));
    assert_eq!(check(&mut history, &server), Ok(Verified { revision: 7, in_doubt_applied: 0 }));
}

#[test]
fn a_lost_tail_is_found() {
    let (mut history, mut server) = history_of_some_writes();
    server.0.pop();
    let error = check(&mut history, &server).expect_err("the last write is gone");
    assert!(error.contains("first write lost: 6"), "{error}");
}

#[test]
fn a_lost_write_in_the_middle_is_found_though_the_newest_state_is_right() {
    let (mut history, mut server) = history_of_some_writes();
    server.0[2] = State::default();
    history.acknowledged.remove(&2);
    let error = check(&mut history, &server).expect_err("revision 2 did nothing");
    assert!(error.contains("at revision 2 of 6"), "{error}");
}

#[test]
fn requests_in_doubt_may_be_there_or_not_in_any_order() {
    for applied in [&[][..], &[0], &[1], &[0, 1], &[1, 0]] {
        let (mut history, mut server) = history_of_some_writes();
        let doubts = [put("a", "doubt"), delete("a")];
        for i in applied {
            server.apply(&doubts[*i]);
        }
        server.acknowledge(&mut history, put("c", "told"));
        doubts.into_iter().for_each(|op| history.doubt(op));
        let verified = check(&mut history, &server).unwrap_or_else(|error| panic!("{applied:?}: {error}"));
        assert_eq!(verified.in_doubt_applied, applied.len());
    }
}

#[test]
fn a_write_that_nobody_sent_is_found() {
    let (mut history, mut server) = history_of_some_writes();
    history.doubt(put("a", "doubt"));
    server.apply(&put("a", "invented"));
    let error = check(&mut history, &server).expect_err("nobody wrote that");
    assert!(error.contains("none of 1 requests in doubt makes it"), "{error}");
}

#[test]
fn a_request_in_doubt_that_was_not_there_must_not_come_back_later() {
    let (mut history, mut server) = history_of_some_writes();
    history.doubt(put("a", "late"));
    check(&mut history, &server).expect("it was not applied");
    server.apply(&put("a", "late"));
    check(&mut history, &server).expect_err("it came back");
}

#[test]
fn one_revision_told_twice_is_found() {
    let (mut history, server) = history_of_some_writes();
    history.acknowledge(put("x", "y"), Outcome { puts: 1, ..Outcome::default() }, 3);
    check(&mut history, &server).expect_err("revision 3 has two owners");
}
