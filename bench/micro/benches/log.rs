//! The log on a real file: what an entry costs in memory, and a batch until it is durable.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plinth_base::{GroupId, LogIndex, Term};
use plinth_micro::{Session, value};
use plinth_uring::UringEnv;
use plinth_wal::{Entry, Wal, WalOptions};

const GROUP: GroupId = GroupId(0);
/// Entries of a batch: one client, and many.
const BATCHES: [u64; 2] = [1, 256];

struct Bed {
    wal: Wal<UringEnv>,
    next: LogIndex,
    payload: Bytes,
}

impl Bed {
    async fn new(env: UringEnv, dir: &Path) -> Self {
        let mut wal = Wal::create(&env, WalOptions::new(dir.to_path_buf())).await.expect("the directory is empty");
        wal.start_group(GROUP, LogIndex(0), Term(1));
        let mut bed = Self { wal, next: LogIndex(1), payload: value(1).into() };
        bed.flush().await;
        bed
    }

    fn append(&mut self) {
        let (index, payload) = (self.next, self.payload.clone());
        self.wal.append(Entry { group: GROUP, index, term: Term(1), is_change: false, payload });
        self.next = index.next();
    }

    async fn flush(&mut self) {
        while let Some(flush) = self.wal.begin_flush() {
            let done = flush.run().await;
            self.wal.finish_flush(done).expect("the disk works");
        }
    }

    /// What checkpoints allow: old segments become the next ones.
    async fn maintain(&mut self) {
        self.wal.release(GROUP, LogIndex(self.next.0 - 1));
        while let Some(maintenance) = self.wal.begin_maintenance() {
            let done = maintenance.run(async |_| {}).await;
            self.wal.finish_maintenance(done).expect("the disk works");
        }
    }
}

/// Batches of `entries`, each until it is durable.
async fn commits(bed: &mut Bed, iterations: u64, entries: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..iterations {
        let began = Instant::now();
        for _ in 0..entries {
            bed.append();
        }
        bed.flush().await;
        spent += began.elapsed();
        bed.maintain().await;
    }
    spent
}

fn log(c: &mut Criterion) {
    let mut group = c.benchmark_group("log append until durable, entries of 256 bytes");
    for entries in BATCHES {
        let session = Session::start(
            async |env, dir| Bed::new(env, dir).await,
            async move |_, bed: &mut Bed, iterations| commits(bed, iterations, entries).await,
        );
        group.throughput(Throughput::Elements(entries));
        group.bench_function(format!("{entries} a batch"), |b| b.iter_custom(|iterations| session.time(iterations)));
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = log }
criterion_main!(benches);
