//! The state machine: puts over existing keys, as entries of the log that are committed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use plinth_base::{MemberId, Prng, Term};
use plinth_kv::{ApplyError, Budget, Command, Envelope, Machine, ProposalId, Put, State, bootstrap, trees};
use plinth_micro::{KEYS, Session, checkpoint, key, load, reserve, value};
use plinth_tree::{Store, StoreOptions};
use plinth_uring::UringEnv;

const CLUSTER: u64 = 1;
const FILE_BYTES_MAX: u64 = 64 << 30;
const GROW_BYTES: u64 = 64 << 20;
/// Puts between two checkpoints.
const PUTS_PER_CHECKPOINT: u64 = 50_000;
/// Pages that one put can make dirty, in all its trees.
const PAGES_PER_PUT_MAX: u64 = 32;
/// Entries of a slice, as in the server.
const SLICE: u32 = 4096;

struct Bed {
    store: Store<UringEnv>,
    machine: Machine,
    prng: Prng,
    since_checkpoint: u64,
}

impl Bed {
    async fn new(env: UringEnv, dir: &Path) -> Self {
        let options = StoreOptions {
            path: dir.join("kv"),
            trees: trees::TREES,
            file_bytes_max: FILE_BYTES_MAX,
            grow_bytes: GROW_BYTES,
        };
        let mut store = Store::create(env.clone(), options).await.expect("the directory is empty");
        bootstrap(&mut store, CLUSTER, &[]).expect("a new store is in memory");
        let machine = Machine::new(State::bootstrap(CLUSTER, vec![MemberId(1)]));
        let mut bed = Self { store, machine, prng: Prng::new(1), since_checkpoint: 0 };
        for number in 0..KEYS {
            let payload = payload(number);
            bed.apply(&env, &payload).await;
            bed.between().await;
        }
        bed
    }

    /// One entry, from its first slice to its last.
    async fn apply(&mut self, env: &UringEnv, payload: &Bytes) {
        let index = self.machine.state().applied.next();
        loop {
            let mut budget = Budget::new(SLICE);
            match self.machine.apply(&mut self.store, index, Term(1), payload, &mut budget) {
                Ok(Some(_)) => return,
                Ok(None) => {}
                Err(ApplyError::Missing(missing)) => load(env, &self.store, missing).await,
                Err(ApplyError::Malformed(what)) => panic!("the machine can't read what was encoded: {}", what.0),
            }
        }
    }

    /// What the shard does beside applying.
    async fn between(&mut self) {
        reserve(&mut self.store, PAGES_PER_PUT_MAX).await;
        self.since_checkpoint += 1;
        if self.since_checkpoint >= PUTS_PER_CHECKPOINT {
            self.since_checkpoint = 0;
            drop(self.machine.publish(&mut self.store));
            checkpoint(&mut self.store).await;
            drop(self.machine.publish(&mut self.store));
        }
    }
}

fn payload(number: u64) -> Bytes {
    let put = Put { key: key(number).to_vec().into(), value: value(number).into(), ..Put::default() };
    Envelope { proposal: ProposalId::default(), command: Command::Put(put) }.encode()
}

async fn puts(env: &UringEnv, bed: &mut Bed, iterations: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        let number = bed.prng.below(KEYS);
        let payload = payload(number);
        let began = Instant::now();
        bed.apply(env, &payload).await;
        spent += began.elapsed();
        bed.between().await;
    }
    spent
}

fn apply(c: &mut Criterion) {
    let session = Session::start(async |env, dir| Bed::new(env, dir).await, puts);
    c.bench_function("kv apply, put over 100 k keys", |b| b.iter_custom(|iterations| session.time(iterations)));
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = apply }
criterion_main!(benches);
