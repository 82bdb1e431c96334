mod recordings;

use std::time::Duration;

use plinth_base::Prng;

use super::*;
use crate::{
    model::{DeleteRange, KeyValue, Put, Range},
    workload::Workload,
};

/// What is wrong with a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bug {
    None,
    /// A crash takes the last acknowledged write.
    LosesAcknowledged,
    /// One request is executed twice.
    ExecutesTwice,
    /// A write is answered with what isn't so.
    WrongAnswer,
    /// A read comes from an old state.
    ReadsStale,
    /// An answer is older than what was known.
    AnswersLate,
    /// Something changes a value without a request.
    Invents,
}

/// Runs random requests against a server that is the model, with or without a bug, and a crash after each batch.
fn check(seed: u64, bug: Bug) -> Result<(), Violation> {
    let (mut prng, workload) = (Prng::new(seed), Workload::default());
    let mut server = Model::default();
    let mut history = History::new(Model::default());
    for _ in 0..4 {
        let survivor = batch(&mut prng, &workload, &mut server, &mut history, bug);
        server = survivor;
        history
            .check(&found(server.revision()), |revision| server.state_at(revision).expect("never compacted").clone())?;
    }
    Ok(())
}

/// A store without leases that was never compacted.
fn found(revision: i64) -> Found {
    Found { revision, compacted: -1, ..Found::default() }
}

/// No test here is about time.
const NOW: Instant = Instant(0);

/// Many requests, each answered, or not because of the crash at the end. Returns the server as it is afterwards.
fn batch(prng: &mut Prng, workload: &Workload, server: &mut Model, history: &mut History, bug: Bug) -> Model {
    let mut durable = server.clone();
    for step in 0..100 {
        let request = workload.request(prng, history.known_revision());
        let id = history.begin(request.clone(), NOW);
        let strikes = step == 70;
        let answer = server.execute(&request);
        if strikes {
            let last = server.revision();
            match bug {
                Bug::ExecutesTwice => {
                    let id = history.begin(put("twice", "1"), NOW);
                    history.finish(id, server.execute(&put("twice", "1")), NOW);
                    drop(server.execute(&put("twice", "1")));
                }
                Bug::WrongAnswer => {
                    let id = history.begin(put("new", "1"), NOW);
                    let answer = server.execute(&put("new", "1")).map(|response| Response::Put {
                        revision: response.revision(),
                        prev_kv: Some(KeyValue::default()),
                    });
                    history.finish(id, answer, NOW);
                }
                Bug::Invents => drop(server.execute(&put("invented", "1"))),
                Bug::ReadsStale => {
                    let mut old = server.rewound_to(last - 20).expect("never compacted");
                    stale_read(history, &mut old, last);
                }
                Bug::AnswersLate => {
                    let mut old = server.rewound_to(last - 20).expect("never compacted");
                    stale_read(history, &mut old, last - 20);
                }
                Bug::None | Bug::LosesAcknowledged => {}
            }
        }
        // The last few are cut off: they are durable or not, but nobody knows.
        if step < 95 {
            durable = server.clone();
            history.finish(id, answer, NOW);
        } else if prng.chance(1, 2) {
            durable = server.clone();
        } else {
            *server = durable.clone();
        }
    }
    if bug == Bug::LosesAcknowledged {
        return durable.rewound_to(history.known_revision() - 1).expect("never compacted");
    }
    durable
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

/// A read of everything as `old` has it, answered as if at `revision`.
fn stale_read(history: &mut History, old: &mut Model, revision: i64) {
    let all = Request::Range(Range { key: vec![0], range_end: vec![0], ..Range::default() });
    let id = history.begin(all.clone(), NOW);
    let mut answer = old.execute(&all);
    if let Ok(Response::Range { revision: answered, .. }) = &mut answer {
        *answered = revision;
    }
    history.finish(id, answer, NOW);
}

#[test]
fn server_that_is_the_model_passes() {
    for seed in 0..20 {
        check(seed, Bug::None).expect("nothing is wrong");
    }
}

#[test]
fn every_bug_is_caught() {
    let reads = [Bug::ReadsStale, Bug::AnswersLate];
    for bug in [Bug::LosesAcknowledged, Bug::ExecutesTwice, Bug::WrongAnswer, Bug::Invents].into_iter().chain(reads) {
        for seed in 0..10 {
            assert!(check(seed, bug).is_err(), "{bug:?} passes with seed {seed}");
        }
    }
}

#[test]
fn write_without_an_answer_may_be_there_or_not() {
    for applied in [false, true] {
        let mut history = History::new(Model::default());
        history.begin(put("a", "1"), NOW);
        let mut server = Model::default();
        if applied {
            server.execute(&put("a", "1")).expect("plain puts succeed");
        }
        let state = server.state().clone();
        history.check(&found(server.revision()), |_| state.clone()).expect("both are right");
        assert_eq!(history.model().revision(), 1 + i64::from(applied));
    }
}

#[test]
fn refusal_without_a_reason_is_a_violation() {
    let mut history = History::new(Model::default());
    let id = history.begin(put("a", "1"), NOW);
    history.finish(id, Err::<Response, _>(Refused::Compacted), NOW);
    assert!(history.check(&found(1), |_| State::new()).is_err());
}
