//! Random commands and reads against the model of the simulator: a whole map for each revision.

use plinth_base::Prng;
use plinth_kv::{Command, KvError, OpOutcome, QueryRun};
use plinth_sim::{
    model::{self, Model, Range, Request, Response, Target, agree},
    workload::Workload,
};
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimOptions};

use crate::{
    bed::{Bed, TERM},
    convert,
};

const SEEDS: u64 = 12;
const REQUESTS: u64 = 400;
const READS: u64 = 40;
/// Leases with these ids come and go; the one after them never exists.
pub(crate) const LEASES: i64 = 3;
/// One request in so many is followed by a compaction.
const COMPACT_ONE_IN: u64 = 40;
/// One request in so many is followed by something with leases.
const LEASE_ONE_IN: u64 = 12;
/// One request in so many is followed by a checkpoint, or by a stop and a start.
const CHECKPOINT_ONE_IN: u64 = 40;
const REOPEN_ONE_IN: u64 = 150;
/// A transaction of more operations would be refused by the API, not by the state machine.
pub(crate) const TXN_OPS_MAX: usize = 1000;

pub(crate) fn workload(prng: &mut Prng) -> Workload {
    Workload {
        keys: 10 + prng.below(60),
        key_bytes_max: 600 + prng.index(2500),
        value_bytes: vec![0, 16, 64, 64, 200, 1000, 1900, 2030, 6000],
        ..Workload::default()
    }
}

/// Adds what the workload leaves out: leases, revisions of reads in transactions, relations that etcd doesn't know.
pub(crate) fn enrich(request: &mut Request, prng: &mut Prng, revision: i64, in_txn: bool) {
    match request {
        Request::Put(put) if !put.ignore_lease && prng.chance(1, 3) => put.lease = some_lease(prng),
        // etcd knows the revision before the first compaction as -1, and that one can be asked for.
        Request::Range(range) if in_txn && prng.chance(1, 3) => {
            range.revision = prng.below(revision.unsigned_abs() + 4) as i64 - 1;
        }
        Request::Txn(txn) => {
            for compare in &mut txn.compare {
                if let Target::Lease(lease) = &mut compare.target {
                    *lease = prng.below(LEASES.unsigned_abs() + 1) as i64;
                }
                if prng.chance(1, 30) {
                    compare.relation = model::Relation::Unknown;
                }
            }
            for request in txn.success.iter_mut().chain(&mut txn.failure) {
                enrich(request, prng, revision, true);
            }
        }
        _ => {}
    }
}

/// Now and then one that doesn't exist.
fn some_lease(prng: &mut Prng) -> i64 {
    if prng.chance(1, 10) { LEASES + 1 } else { 1 + prng.below(LEASES.unsigned_abs()) as i64 }
}

fn only_reads(txn: &model::Txn) -> bool {
    txn.success.iter().chain(&txn.failure).all(|request| matches!(request, Request::Range(_)))
}

pub(crate) async fn execute(bed: &mut Bed, request: &Request) -> Result<Response, KvError> {
    match request {
        Request::Range(range) => {
            bed.range(convert::query(range)).await.map(|(revision, outcome)| convert::response(revision, outcome))
        }
        Request::Txn(txn) if only_reads(txn) && bed.prng.chance(1, 2) => {
            let outcome = bed.read_txn(convert::txn(txn)?).await;
            outcome.result.map(|result| convert::response(outcome.revision, result))
        }
        _ => {
            let outcome = bed.apply(convert::command(request)?).await;
            outcome.result.map(|result| convert::response(outcome.revision, result))
        }
    }
}

/// Every revision is what the model has.
async fn assert_same_history(bed: &mut Bed, model: &Model) {
    for revision in model.compacted().max(1)..=model.revision() {
        let all = Range { key: vec![0], range_end: vec![0], revision, ..Range::default() };
        let (_, outcome) = bed.range(convert::query(&all)).await.expect("nothing is compacted");
        let Response::Range { kvs, count, .. } = convert::response(0, outcome) else { panic!("a range was asked for") };
        let want = model.state_at(revision).expect("nothing is compacted");
        assert_eq!(usize::try_from(count), Ok(want.len()));
        assert!(model::state_of(kvs) == *want, "revision {revision} is not what the model has");
    }
}

async fn random_requests(env: SimEnv, seed: u64) {
    let (mut bed, mut model) = (Bed::new(env, seed).await, Model::new(TXN_OPS_MAX));
    for lease in 1..=LEASES {
        bed.grant_lease(lease).await;
        model.grant_lease(lease);
    }
    let workload = workload(&mut bed.prng);
    for number in 0..REQUESTS {
        let mut request = workload.request(&mut bed.prng, model.revision());
        enrich(&mut request, &mut bed.prng, model.revision(), false);
        let got = execute(&mut bed, &request).await.map_err(convert::refused);
        let want = model.execute(&request);
        let same = match (&want, &got) {
            (Ok(want), Ok(got)) => agree(&request, want, got),
            _ => want == got,
        };
        assert!(same, "request {number} of seed {seed}: {request:?}\nwant {want:?}\ngot  {got:?}");
        assert_eq!(bed.machine.state().revision, model.revision());
        if bed.prng.chance(1, COMPACT_ONE_IN) {
            compact(&mut bed, &mut model).await;
        }
        if bed.prng.chance(1, 3) {
            bed.sweep_slice().await;
        }
        if bed.prng.chance(1, LEASE_ONE_IN) {
            some_lease_command(&mut bed, &mut model).await;
        }
        if bed.prng.chance(1, CHECKPOINT_ONE_IN) {
            bed.checkpoint().await;
        }
        if bed.prng.chance(1, REOPEN_ONE_IN) {
            bed = bed.reopened().await;
        }
    }
    bed.audit().await;
    assert_same_history(&mut bed, &model).await;
    bed = bed.reopened().await;
    while !bed.sweep_slice().await {}
    bed.audit().await;
    assert_same_history(&mut bed, &model).await;
    assert!(bed.ended_early > REQUESTS / 4, "only {} slices ended for their budget", bed.ended_early);
    assert!(bed.missed > REQUESTS / 8, "only {} slices missed a page", bed.missed);
}

/// Compacts to some revision, now and then to one that it can't.
pub(crate) async fn compact(bed: &mut Bed, model: &mut Model) {
    let back = bed.prng.below(40) as i64 - 1;
    let revision = model.revision() - back;
    let outcome = bed.apply(Command::Compact { revision }).await;
    let want = model.compact(revision).map(|()| OpOutcome::Compacted);
    assert_eq!(outcome.result.map_err(convert::refused), want);
    assert_eq!(bed.machine.state().compacted, model.compacted());
}

/// Grants a lease, revokes one, or has some expire; the answer and the state after it are the model's.
pub(crate) async fn some_lease_command(bed: &mut Bed, model: &mut Model) {
    let id = some_lease(&mut bed.prng);
    match bed.prng.below(4) {
        0 | 1 if id <= LEASES => {
            let outcome = bed.apply(Command::LeaseGrant { id, ttl: 1 + id }).await;
            let want = if model.grant_lease(id) {
                Ok(OpOutcome::LeaseGranted { id, ttl: 1 + id })
            } else {
                Err(KvError::LeaseExists)
            };
            assert_eq!(outcome.result, want);
        }
        2 => {
            let outcome = bed.apply(Command::LeaseRevoke { id }).await;
            let want = model.revoke_lease(id).map(|()| OpOutcome::LeasesRevoked { ids: vec![id], found: 1 });
            assert_eq!(outcome.result.map_err(convert::refused), want);
        }
        _ => {
            let ids = vec![id, some_lease(&mut bed.prng), some_lease(&mut bed.prng)];
            let found = ids.iter().filter(|id| model.revoke_lease(**id).is_ok()).count();
            let outcome = bed.apply(Command::LeasesExpire { ids: ids.clone(), term: TERM }).await;
            assert_eq!(outcome.result, Ok(OpOutcome::LeasesRevoked { ids, found }));
        }
    }
    assert_eq!(bed.machine.state().revision, model.revision());
}

pub(crate) fn simulate(seed: u64, main: impl AsyncFnOnce(SimEnv, u64)) {
    let faults = Faults { page_miss: Chance::one_in(12), ..Faults::default() };
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    sim.block_on(main(sim.env(), seed));
}

#[test]
fn random_requests_are_answered_as_by_the_model() {
    for seed in 0..SEEDS {
        simulate(seed, random_requests);
    }
}

/// Everything is read, so that it takes long, with whatever options, while writes move the store away under the read.
async fn reads_beside_writes(env: SimEnv, seed: u64) {
    let (mut bed, mut model) = (Bed::new(env, seed).await, Model::new(TXN_OPS_MAX));
    let writes = Workload { reads_percent: 0, ..workload(&mut bed.prng) };
    let reads = Workload { reads_percent: 100, ..writes.clone() };
    let mut written_beside = 0;
    for _ in 0..READS {
        write(&mut bed, &mut model, &writes).await;
        let Request::Range(range) = reads.request(&mut bed.prng, model.revision()) else { panic!("only reads") };
        let range = Range { key: vec![0], range_end: vec![0], ..range };
        let request = Request::Range(range.clone());
        let want = model.execute(&request);
        let (state, mut kvs) = (bed.machine.state().clone(), Vec::new());
        let mut run = match QueryRun::new(convert::query(&range), state.revision, state.compacted) {
            Ok(run) => run,
            Err(error) => {
                assert_eq!(want, Err(convert::refused(error)));
                continue;
            }
        };
        while !bed.read_slice(&mut run, &mut kvs).await {
            write(&mut bed, &mut model, &writes).await;
            written_beside += 1;
        }
        let got = convert::response(state.revision, OpOutcome::Range { kvs, result: run.result() });
        let want = want.expect("the revision exists");
        assert!(agree(&request, &want, &got), "seed {seed}: {request:?}\nwant {want:?}\ngot  {got:?}");
    }
    assert!(written_beside > READS, "only {written_beside} writes came in between");
}

/// A random write; whether it is refused is the model's to say.
pub(crate) async fn write(bed: &mut Bed, model: &mut Model, writes: &Workload) {
    let request = writes.request(&mut bed.prng, model.revision());
    let got = execute(bed, &request).await.map(drop).map_err(convert::refused);
    assert_eq!(got, model.execute(&request).map(drop));
}

#[test]
fn a_read_stays_at_its_revision_while_the_store_goes_on() {
    for seed in 0..SEEDS {
        simulate(seed, reads_beside_writes);
    }
}
