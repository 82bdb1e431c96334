//! What clients asked and were told, in the order in which it happened.
//!
//! Many threads write it while the cluster is under test. It becomes a history of the simulator when they are done: the same checker that judges
//! simulated clusters judges this one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use plinth_client::{Code, Status};
use plinth_rpc::{Status as RpcStatus, errors};
use plinth_sim::{
    call::{Answer, Call},
    history::{History, OpId},
    model::{Model, Refused, Request, Response},
    wire,
};

/// What happened to the request with a number.
enum Event {
    Began {
        number: usize,
        call: Call,
        serializable: bool,
    },
    Answered {
        number: usize,
        answer: Result<Answer, Refused>,
    },
    /// It was not carried out.
    Declined {
        number: usize,
    },
}

/// An acknowledged put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    /// The member that was asked.
    pub(crate) through: usize,
    pub(crate) began: Instant,
    pub(crate) acknowledged: Instant,
}

/// What became of all requests so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: usize,
    /// Answered, with whatever.
    pub(crate) answered: usize,
    /// Those that changed something for certain, as far as they are puts.
    pub(crate) puts: usize,
    /// The member couldn't carry them out, or nobody knows whether it did.
    pub(crate) failed: usize,
    /// Nobody knows what became of them.
    pub(crate) unknown: usize,
}

#[derive(Default)]
struct Recorded {
    events: Vec<(Instant, Event)>,
    known_revision: i64,
    writes: Vec<Write>,
    totals: Totals,
    strange: Vec<String>,
}

/// See the module.
pub(crate) struct Recording {
    begun: Instant,
    recorded: Mutex<Recorded>,
}

/// A request under way.
pub(crate) struct UnderWay {
    number: usize,
    began: Instant,
    through: usize,
    is_put: bool,
}

/// What a client makes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// The member answers.
    Answer,
    /// It can't do anything now: another one may.
    Nothing,
}

impl Recording {
    pub(crate) fn new() -> Self {
        let known_revision = Model::default().revision();
        let recorded = Mutex::new(Recorded { known_revision, ..Recorded::default() });
        Self { begun: Instant::now(), recorded }
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest revision that any client knows.
    pub(crate) fn known_revision(&self) -> i64 {
        self.recorded().known_revision
    }

    pub(crate) fn totals(&self) -> Totals {
        self.recorded().totals
    }

    /// Notes that a request is about to be sent.
    pub(crate) fn begin(&self, through: usize, request: &Request, serializable: bool) -> UnderWay {
        let mut recorded = self.recorded();
        let (number, began) = (recorded.totals.requests, Instant::now());
        recorded.totals.requests += 1;
        recorded.totals.unknown += 1;
        recorded.events.push((began, Event::Began { number, call: Call::Kv(request.clone()), serializable }));
        UnderWay { number, began, through, is_put: matches!(request, Request::Put(_)) }
    }

    /// Notes what came of it.
    pub(crate) fn finish(&self, under_way: &UnderWay, answer: Result<Response, Status>) -> Told {
        let mut recorded = self.recorded();
        let (now, number) = (Instant::now(), under_way.number);
        let (event, told) = match answer {
            Ok(response) => {
                recorded.known_revision = recorded.known_revision.max(response.revision());
                if under_way.is_put {
                    let write = Write { through: under_way.through, began: under_way.began, acknowledged: now };
                    recorded.writes.push(write);
                    recorded.totals.puts += 1;
                }
                (Event::Answered { number, answer: Ok(response.into()) }, Told::Answer)
            }
            Err(status) => {
                let known = outcome_of(&status);
                recorded.totals.failed += usize::from(!matches!(known, Known::Refused(_)));
                match known {
                    Known::Refused(refused) => (Event::Answered { number, answer: Err(refused) }, Told::Answer),
                    Known::Declined => (Event::Declined { number }, Told::Nothing),
                    Known::NoOutcome => return Told::Nothing,
                    Known::Strange => {
                        recorded.strange.push(status.to_string());
                        return Told::Nothing;
                    }
                }
            }
        };
        recorded.totals.unknown -= 1;
        recorded.totals.answered += usize::from(told == Told::Answer);
        recorded.events.push((now, event));
        told
    }

    /// Acknowledged puts that began at `since` or later, in the order of their acknowledgements.
    pub(crate) fn writes_since(&self, since: Instant) -> Vec<Write> {
        self.recorded().writes.iter().filter(|write| write.began >= since).copied().collect()
    }

    /// The longest time without an acknowledgement of a put between `since` and now.
    pub(crate) fn longest_pause(&self, since: Instant) -> Duration {
        self.longest_pause_where(since, |_| true)
    }

    /// The same for puts through this member.
    pub(crate) fn longest_pause_through(&self, member: usize, since: Instant) -> Duration {
        self.longest_pause_where(since, |write| write.through == member)
    }

    fn longest_pause_where(&self, since: Instant, counts: impl Fn(&Write) -> bool) -> Duration {
        let recorded = self.recorded();
        let writes = recorded.writes.iter().filter(|write| counts(write));
        let acknowledged = writes.map(|write| write.acknowledged).filter(|at| *at > since);
        let mut longest = Duration::ZERO;
        let mut last = since;
        for at in acknowledged.chain([Instant::now()]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }

    /// Answers that nothing explains.
    pub(crate) fn strange(&self) -> Vec<String> {
        self.recorded().strange.clone()
    }

    /// The history that this is, of a store that was empty in the beginning.
    pub(crate) fn history(&self) -> History {
        let mut history = History::new(Model::default());
        let mut ids: Vec<OpId> = Vec::new();
        for (at, event) in &self.recorded().events {
            let now = plinth_base::Instant(nanos(at.saturating_duration_since(self.begun)));
            match event {
                Event::Began { number, call, serializable } => {
                    assert_eq!(*number, ids.len(), "requests are numbered as they begin");
                    ids.push(if call.may_be_stale(*serializable) {
                        history.begin_stale(call.clone(), now)
                    } else {
                        history.begin(call.clone(), now)
                    });
                }
                Event::Answered { number, answer } => history.finish(ids[*number], answer.clone(), now),
                Event::Declined { number } => history.forget(ids[*number]),
            }
        }
        history
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a status says of the outcome of a request.
enum Known {
    Refused(Refused),
    Declined,
    NoOutcome,
    Strange,
}

fn outcome_of(status: &Status) -> Known {
    let timeouts = [errors::TIMEOUT, errors::TIMEOUT_LEADER_FAILURE, errors::TIMEOUT_CONNECTION_LOST];
    if let Some(status) = rpc_status(status) {
        if let Some(refused) = wire::refused(&status) {
            return Known::Refused(refused);
        }
        if wire::is_declined(&status) {
            return Known::Declined;
        }
        if timeouts.contains(&status) {
            return Known::NoOutcome;
        }
    }
    // What the client says itself: the deadline, or a connection that broke.
    let is_own = status.message.starts_with("connection: ");
    if status.code == Code::DEADLINE_EXCEEDED || status.code == Code::UNAVAILABLE && is_own {
        return Known::NoOutcome;
    }
    Known::Strange
}

fn rpc_status(status: &Status) -> Option<RpcStatus> {
    let code = plinth_rpc::Code::ALL.get(usize::try_from(status.code.0).ok()?)?;
    Some(RpcStatus::new(*code, status.message.clone()))
}

#[cfg(test)]
mod tests {
    use plinth_sim::{
        history::Found,
        model::{Put, Range, State},
        scenario::Violation,
    };

    use super::*;

    fn put(value: &str) -> Request {
        Request::Put(Put { key: b"key".to_vec(), value: value.into(), ..Put::default() })
    }

    fn read() -> Request {
        Request::Range(Range { key: b"key".to_vec(), ..Range::default() })
    }

    fn failure(error: &RpcStatus) -> Status {
        Status::new(Code(u32::from(error.code.number())), error.message.clone())
    }

    /// Notes a request that `server` carries out, and what the client is told instead of its answer.
    fn carried_out(recording: &Recording, server: &mut Model, request: &Request, told: Option<Status>) -> Told {
        let under_way = recording.begin(0, request, false);
        let answer = server.execute(request).expect("plain requests succeed");
        recording.finish(&under_way, told.map_or(Ok(answer), Err))
    }

    fn check(recording: &Recording, server: &Model) -> Result<(), Violation> {
        let found = Found { revision: server.revision(), compacted: -1, ..Found::default() };
        let state = |revision| server.state_at(revision).map_or_else(State::new, State::clone);
        recording.history().check(&found, state)
    }

    #[test]
    fn what_the_server_did_is_a_history_whatever_was_heard_of_it() {
        let (recording, mut server) = (Recording::new(), Model::default());
        let timeout = || Some(failure(&errors::TIMEOUT));
        assert_eq!(carried_out(&recording, &mut server, &put("1"), None), Told::Answer);
        assert_eq!(carried_out(&recording, &mut server, &put("2"), timeout()), Told::Nothing);
        recording.begin(0, &put("never arrived"), false);
        assert_eq!(carried_out(&recording, &mut server, &read(), None), Told::Answer);
        assert_eq!(check(&recording, &server), Ok(()));
        let totals = recording.totals();
        assert_eq!((totals.requests, totals.unknown), (4, 2));
    }

    #[test]
    fn an_acknowledged_put_that_is_gone_is_a_violation() {
        let (recording, mut server) = (Recording::new(), Model::default());
        carried_out(&recording, &mut server, &put("1"), None);
        check(&recording, &Model::default()).expect_err("it was acknowledged");
    }

    #[test]
    fn a_read_of_the_past_is_a_violation_unless_it_is_serializable() {
        for serializable in [false, true] {
            let (recording, mut server) = (Recording::new(), Model::default());
            carried_out(&recording, &mut server, &put("1"), None);
            let mut behind = server.clone();
            carried_out(&recording, &mut server, &put("2"), None);
            let under_way = recording.begin(1, &read(), serializable);
            recording.finish(&under_way, Ok(behind.execute(&read()).expect("plain requests succeed")));
            assert_eq!(check(&recording, &server).is_ok(), serializable);
        }
    }

    #[test]
    fn a_declined_put_that_was_carried_out_is_a_violation() {
        let (recording, mut server) = (Recording::new(), Model::default());
        carried_out(&recording, &mut server, &put("1"), Some(failure(&errors::NO_LEADER)));
        check(&recording, &server).expect_err("it was declined");
    }

    #[test]
    fn answers_that_nothing_explains_are_kept() {
        let (recording, mut server) = (Recording::new(), Model::default());
        carried_out(&recording, &mut server, &put("1"), Some(Status::new(Code::INTERNAL, "what is this")));
        carried_out(&recording, &mut server, &put("2"), Some(Status::new(Code::UNAVAILABLE, "connection: reset")));
        assert_eq!(recording.strange().len(), 1);
    }
}
