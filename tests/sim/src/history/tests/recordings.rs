//! Hand-made recordings of leases and compactions: sound ones pass, unsound ones don't.

use super::*;

/// A recording: a server that is a model, what its clients were told, and the time, which goes on by a millisecond with each call.
struct Recording {
    server: Model,
    history: History,
    now: u64,
    compacted: i64,
    leases: Vec<i64>,
}

/// The lease of these tests, of 5 s.
const LEASE: i64 = 7;

impl Recording {
    /// A server with the keys a, b and c, of which a and b hang on the lease: revisions 2 to 4.
    fn new() -> Self {
        let (server, mut history) = (Model::default(), History::new(Model::default()));
        history.begin_life(Life::new(at(0), at(1), Duration::from_secs(1), 1));
        let mut recording = Self { server, history, now: 1, compacted: -1, leases: vec![LEASE] };
        recording.server.grant_lease(LEASE);
        recording.call(Call::LeaseGrant { lease: LEASE, ttl: 5 }, Ok(Answer::Granted { revision: 1, ttl: 5 }));
        for (key, lease) in [("a", LEASE), ("b", LEASE), ("c", 0)] {
            recording.kv(Request::Put(Put { key: key.into(), value: "1".into(), lease, ..Put::default() }));
        }
        recording
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.history.life_mut().look(self.server.revision(), at(self.now));
    }

    /// A call with its answer.
    fn call(&mut self, call: Call, answer: Result<Answer, Refused>) {
        let id = self.history.begin(call, at(self.now));
        self.pass(1);
        self.history.finish(id, answer, at(self.now));
    }

    /// A request, answered as the server does.
    fn kv(&mut self, request: Request) {
        let answer = self.server.execute(&request).map(Answer::Kv);
        self.call(Call::Kv(request), answer);
    }

    fn read(&mut self, revision: i64) {
        self.kv(Request::Range(all(revision)));
    }

    /// What may be compacted next.
    fn record(&mut self) {
        while self.history.unrecorded() <= self.server.revision() {
            let next = self.history.unrecorded();
            self.history.record(next, self.server.state_at(next).expect("the server keeps it").clone());
        }
    }

    /// All revisions are recorded, then this one is compacted.
    fn compact(&mut self, revision: i64) {
        self.record();
        let answer = Answer::Compacted { revision: self.server.revision() };
        self.compacted = revision;
        self.call(Call::Compact { revision, physical: true }, Ok(answer));
    }

    /// The keys of the lease go, all or one after the other.
    fn expire(&mut self) {
        self.server.revoke_lease(LEASE).expect("it is there");
        self.leases.clear();
    }

    fn check(mut self) -> Result<(), Violation> {
        self.pass(100);
        (self.history.life_mut().well_until, self.history.life_mut().ended) = (at(self.now), at(self.now));
        let keys = |lease| self.server.attached(lease).map(|key| key.to_vec()).collect();
        let leases = self.leases.iter().map(|lease| (*lease, keys(*lease))).collect();
        let found = Found { revision: self.server.revision(), compacted: self.compacted, leases };
        let server = &self.server;
        self.history.check(&found, |revision| server.state_at(revision).expect("the server keeps it").clone())
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn all(revision: i64) -> Range {
    Range { key: vec![0], range_end: vec![0], revision, ..Range::default() }
}

fn delete(key: &str) -> Request {
    Request::DeleteRange(DeleteRange { key: key.into(), ..DeleteRange::default() })
}

fn says(result: Result<(), Violation>, what: &str) {
    let Violation(told) = result.expect_err("it is wrong");
    assert!(told.contains(what), "{told:?} doesn't say {what:?}");
}

#[test]
fn an_expiry_in_time_is_nobodys_work_and_right() {
    let mut recording = Recording::new();
    recording.pass(5100);
    recording.expire();
    recording.pass(100);
    let gone = Answer::TimeToLive { revision: 5, ttl: -1, granted_ttl: 0, keys: Vec::new() };
    recording.call(Call::LeaseTimeToLive { lease: LEASE, keys: true }, Ok(gone));
    recording.read(0);
    recording.kv(Request::Put(Put { key: "d".into(), lease: LEASE, ..Put::default() }));
    assert_eq!(recording.check(), Ok(()));
}

#[test]
fn an_expiry_before_its_time_is_a_violation() {
    let mut recording = Recording::new();
    recording.pass(4000);
    recording.expire();
    says(recording.check(), "it had to live until");
}

#[test]
fn an_expiry_long_after_its_time_is_a_violation() {
    let mut recording = Recording::new();
    recording.pass(8000);
    recording.expire();
    says(recording.check(), "its time was over");
}

#[test]
fn a_key_that_survives_its_lease_is_a_violation() {
    let mut recording = Recording::new();
    recording.pass(5100);
    recording.leases.clear();
    says(recording.check(), "is gone, and has keys");
}

#[test]
fn half_a_revocation_is_a_violation() {
    let mut recording = Recording::new();
    recording.history.begin(Call::LeaseRevoke { lease: LEASE }, at(recording.now));
    recording.server.execute(&delete("a")).expect("it is there");
    recording.leases.clear();
    says(recording.check(), "nobody asked for what the store has at revision 5");
}

#[test]
fn a_revocation_in_two_revisions_is_a_violation() {
    let mut recording = Recording::new();
    let id = recording.history.begin(Call::LeaseRevoke { lease: LEASE }, at(recording.now));
    recording.server.execute(&delete("a")).expect("it is there");
    recording.server.execute(&delete("b")).expect("it is there");
    recording.history.finish(id, Ok(Answer::Revoked { revision: 6 }), at(recording.now));
    recording.leases.clear();
    says(recording.check(), "nobody asked for what the store has at revision 5");
}

#[test]
fn a_revocation_may_be_cut_off_or_carried_out() {
    for done in [false, true] {
        let mut recording = Recording::new();
        recording.history.begin(Call::LeaseRevoke { lease: LEASE }, at(recording.now));
        if done {
            recording.expire();
        }
        assert_eq!(recording.check(), Ok(()));
    }
}

#[test]
fn a_lease_that_nobody_granted_or_with_other_keys_is_a_violation() {
    let mut recording = Recording::new();
    recording.leases.push(8);
    says(recording.check(), "nobody asked for lease 8");
    let mut recording = Recording::new();
    let told = Answer::TimeToLive { revision: 4, ttl: 4, granted_ttl: 5, keys: vec![b"a".to_vec()] };
    // At revision 2 that was so; all were known when it was asked.
    recording.call(Call::LeaseTimeToLive { lease: LEASE, keys: true }, Ok(told));
    says(recording.check(), "it never had these keys");
}

#[test]
fn what_is_compacted_is_refused_and_the_rest_is_read() {
    let mut recording = Recording::new();
    recording.compact(3);
    recording.call(Call::Kv(Request::Range(all(2))), Err(Refused::Compacted));
    recording.read(3);
    recording.call(Call::Compact { revision: 3, physical: false }, Err(Refused::Compacted));
    recording.call(Call::Compact { revision: 9, physical: false }, Err(Refused::FutureRevision));
    assert_eq!(recording.check(), Ok(()));
}

#[test]
fn a_compacted_revision_that_can_be_read_again_is_a_violation() {
    let mut recording = Recording::new();
    recording.compact(3);
    recording.read(2);
    says(recording.check(), "it was compacted to 3 before");
    // A refusal tells as much as an acknowledged compaction.
    let mut recording = Recording::new();
    recording.record();
    recording.history.begin(Call::Compact { revision: 3, physical: false }, at(recording.now));
    recording.call(Call::Kv(Request::Range(all(2))), Err(Refused::Compacted));
    recording.read(2);
    recording.compacted = 3;
    says(recording.check(), "it was compacted to 3 before");
}

#[test]
fn a_compaction_that_a_crash_takes_back_is_a_violation() {
    let mut recording = Recording::new();
    recording.compact(3);
    recording.compacted = -1;
    says(recording.check(), "revision 3 was compacted, the store says -1");
}

#[test]
fn a_compaction_that_nobody_asked_for_is_a_violation() {
    let mut recording = Recording::new();
    recording.call(Call::Kv(Request::Range(all(2))), Err(Refused::Compacted));
    says(recording.check(), "nobody compacted to 3");
    let mut recording = Recording::new();
    recording.compact(3);
    recording.compacted = 4;
    says(recording.check(), "compacted to 4, which nobody asked for");
}

#[test]
fn a_read_that_shows_more_than_its_revision_is_a_violation() {
    let mut recording = Recording::new();
    recording.compact(3);
    let newer = recording.server.execute(&Request::Range(all(4))).expect("it is there");
    recording.call(Call::Kv(Request::Range(all(3))), Ok(Answer::Kv(newer)));
    says(recording.check(), "expected");
}
