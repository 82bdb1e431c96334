//! Snapshots, hashes and defragmentation of a member that goes on working.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use plinth_env::{Env, TaskQueue};
use plinth_node::{
    ShardOptions,
    api::{Api, ApiOptions},
};
use plinth_rpc::{ChunkSource, Code, Frame, Gone, Method, Replies, RequestMeta, Requests, Status, etcdserverpb as pb};
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimOptions};
use prost::Message as _;

use crate::support::{Node, options, start};

async fn put(api: &Api<SimEnv>, key: u32, value: Vec<u8>) -> i64 {
    let request = pb::PutRequest { key: format!("{key:06}").into(), value: value.into(), ..Default::default() };
    api.put(request).await.expect("put").header.expect("a header").revision
}

async fn delete_all(api: &Api<SimEnv>) -> i64 {
    let request = pb::DeleteRangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
    api.delete_range(request).await.expect("deleted").header.expect("a header").revision
}

async fn compact(api: &Api<SimEnv>, revision: i64) {
    api.compact(pb::CompactionRequest { revision, physical: true }).await.expect("compacted");
}

async fn hash_kv(api: &Api<SimEnv>, revision: i64) -> Result<(u32, i64), Status> {
    api.hash_kv(pb::HashKvRequest { revision }).await.map(|answer| (answer.hash, answer.compact_revision))
}

/// One empty request.
struct OneRequest(bool);

impl Requests for OneRequest {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        std::mem::take(&mut self.0).then(|| Ok(Bytes::new()))
    }
}

type Received = Rc<RefCell<Vec<pb::SnapshotResponse>>>;

/// Takes so many messages, each after a pause, and nothing after that.
struct Reader {
    env: SimEnv,
    pause: Duration,
    messages_max: usize,
    received: Received,
}

impl Replies for Reader {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        if self.received.borrow().len() == self.messages_max {
            pending::<()>().await;
        }
        if !self.pause.is_zero() {
            self.env.sleep(self.pause).await;
        }
        let message = pb::SnapshotResponse::decode(frame.message()).expect("a message");
        self.received.borrow_mut().push(message);
        Ok(())
    }

    async fn send_chunked(&mut self, message_len: u64, _: &mut dyn ChunkSource) -> Result<(), Status> {
        panic!("a message of a snapshot takes no {message_len} bytes");
    }
}

async fn snapshot(
    env: &SimEnv,
    api: &Api<SimEnv>,
    pause: Duration,
    messages_max: usize,
) -> (Result<(), Status>, Vec<pb::SnapshotResponse>) {
    let received = Received::default();
    let reader = Reader { env: env.clone(), pause, messages_max, received: Rc::clone(&received) };
    let meta = RequestMeta::default();
    let end = api.stream(Method::Snapshot, &meta, OneRequest(true), reader).await;
    (end, received.take())
}

/// Blobs one after the other; that each message says how much is to come, and the last one is the digest.
fn file_of(messages: &[pb::SnapshotResponse]) -> Vec<u8> {
    let (digest, blobs) = messages.split_last().expect("a digest");
    let file: Vec<u8> = blobs.iter().flat_map(|message| message.blob.iter().copied()).collect();
    let mut sent = 0;
    for message in blobs {
        sent += message.blob.len();
        assert!(message.blob.len() <= 32 << 10 && message.version == "3.6.0");
        assert_eq!(message.remaining_bytes, (file.len() - sent) as u64);
    }
    assert_eq!((digest.remaining_bytes, digest.blob.len()), (0, 32));
    file
}

#[test]
fn a_snapshot_is_of_one_root_while_writes_go_on_and_pages_are_missing() {
    for seed in 0..4 {
        let faults = Faults { page_miss: Chance::one_in(10), ..Faults::default() };
        let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
        let env = sim.env();
        sim.block_on(async {
            let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
            for round in 0..6 {
                for key in 0..150 {
                    put(&api, key, vec![round; 700]).await;
                }
            }
            let (end, calm) = snapshot(&env, &api, Duration::ZERO, usize::MAX).await;
            assert_eq!(end, Ok(()));
            let answer = Rc::new(RefCell::new(None));
            let (to, reader, reader_env) = (Rc::clone(&answer), api.clone(), env.clone());
            env.spawn(TaskQueue::Serve, async move {
                let taken = snapshot(&reader_env, &reader, Duration::from_millis(100), usize::MAX).await;
                *to.borrow_mut() = Some(taken);
            });
            env.yield_now().await;
            while answer.borrow().is_none() {
                let last = put(&api, 7, vec![99; 3000]).await;
                env.sleep(Duration::from_millis(50)).await;
                if last % 5 == 0 {
                    compact(&api, last).await;
                }
            }
            let (end, busy) = answer.take().expect("it has ended");
            assert_eq!(end, Ok(()));
            assert!(file_of(&busy) == file_of(&calm), "both are of the state before the writes, seed {seed}");
        });
    }
}

#[test]
fn a_client_that_stops_reading_is_told_and_holds_nothing_any_longer() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let options = ShardOptions { checkpoint_age: Duration::from_secs(1), ..options() };
        let Node { api, .. } = start(&env, options).await.expect("the disk is well");
        for key in 0..100 {
            put(&api, key, vec![1; 10_000]).await;
        }
        let began = env.now();
        let (end, received) = snapshot(&env, &api, Duration::ZERO, 3).await;
        assert_eq!(end.map_err(|status| status.code), Err(Code::ResourceExhausted));
        assert_eq!(received.len(), 3);
        assert_eq!(env.now().since(began).as_secs(), 60);
        // What it held is free after two checkpoints.
        let last = delete_all(&api).await;
        compact(&api, last).await;
        env.sleep(Duration::from_secs(5)).await;
        assert!(api.published().status.in_use_bytes() < 200_000);
    });
}

#[test]
fn a_client_that_drips_is_told_too() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        for key in 0..100 {
            put(&api, key, vec![1; 100_000]).await;
        }
        // 32 KiB each 25 s, where the least is one MiB each second.
        let (end, received) = snapshot(&env, &api, Duration::from_secs(25), usize::MAX).await;
        assert_eq!(end.map_err(|status| status.code), Err(Code::ResourceExhausted));
        assert_eq!(received.len(), 2, "it had a minute");
    });
}

#[test]
fn a_snapshot_ends_when_it_holds_too_much_back() {
    let sim = Sim::new(10, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let options = ShardOptions { checkpoint_age: Duration::from_secs(1), ..options() };
        let Node { api, handle } = start(&env, options).await.expect("the disk is well");
        // The least is granted.
        let options = ApiOptions { quota_bytes: Some(1), ..api.options().clone() };
        let nearly_full = Api::new(api.executor().clone(), handle, Arc::new(options));
        for key in 0..100 {
            put(&api, key, vec![1; 900_000]).await;
        }
        let answer = Rc::new(RefCell::new(None));
        let (to, reader, reader_env) = (Rc::clone(&answer), nearly_full, env.clone());
        env.spawn(TaskQueue::Serve, async move {
            let taken = snapshot(&reader_env, &reader, Duration::from_secs(1), usize::MAX).await;
            *to.borrow_mut() = Some((taken.0, reader_env.now()));
        });
        env.sleep(Duration::from_secs(5)).await;
        assert!(answer.borrow().is_none(), "nothing was freed yet");
        let last = delete_all(&api).await;
        compact(&api, last).await;
        let freed = env.now();
        while answer.borrow().is_none() {
            env.sleep(Duration::from_secs(1)).await;
        }
        let (end, ended) = answer.take().expect("it has ended");
        assert_eq!(end.map_err(|status| status.code), Err(Code::ResourceExhausted));
        assert!(ended.since(freed) < Duration::from_secs(10), "long before its time was over");
    });
}

#[test]
fn hashes_stay_the_same_over_sweeps_checkpoints_and_a_restart() {
    let sim = Sim::new(7, SimOptions::default());
    let (revision, want) = sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let mut last = 0;
        for round in 0..10 {
            for key in 0..100 {
                last = put(&api, key, vec![round; 50]).await;
            }
        }
        assert_eq!(hash_kv(&api, last + 1).await.map_err(|status| status.code), Err(Code::OutOfRange));
        let old = hash_kv(&api, 500).await.expect("it is there");
        assert_eq!(hash_kv(&api, 500).await, Ok(old));
        assert_eq!(old.1, -1);
        api.compact(pb::CompactionRequest { revision: 500, physical: false }).await.expect("compacted");
        // The sweep has hardly begun.
        let early = hash_kv(&api, 700).await.expect("it is there");
        compact_wait(&api).await;
        assert_eq!(hash_kv(&api, 700).await, Ok(early), "a sweep changes nothing");
        assert_eq!(hash_kv(&api, 499).await.map_err(|status| status.code), Err(Code::OutOfRange));
        (
            last,
            (
                early,
                hash_kv(&api, 0).await.expect("it is there"),
                api.hash(pb::HashRequest {}).await.expect("hash").hash,
            ),
        )
    });
    sim.kill();
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        // A hash is of what this member has applied: here, of what it has replayed.
        assert_eq!(crate::support::keys(&api).await, 100);
        let got = (
            hash_kv(&api, 700).await.expect("it is there"),
            hash_kv(&api, revision).await.expect("it is there"),
            api.hash(pb::HashRequest {}).await.expect("hash").hash,
        );
        assert_eq!(got, want);
    });
}

/// Until what is compacted is swept.
async fn compact_wait(api: &Api<SimEnv>) {
    while !api.published().root().state.is_swept() {
        api.executor().env().sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_hash_under_way_is_right_while_a_later_compaction_waits_for_it() {
    let sim = Sim::new(8, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let mut last = 0;
        for round in 0..40 {
            for key in 0..50 {
                last = put(&api, key, vec![round; 50]).await;
            }
        }
        let want = hash_kv(&api, 1000).await.expect("it is there");
        let answer = Rc::new(RefCell::new(None));
        let (to, reader) = (Rc::clone(&answer), api.clone());
        env.spawn(TaskQueue::Serve, async move {
            let hash = hash_kv(&reader, 1000).await;
            *to.borrow_mut() = Some(hash);
        });
        env.yield_now().await;
        assert!(answer.borrow().is_none(), "it takes several slices");
        compact(&api, last).await;
        assert_eq!(answer.borrow_mut().take(), Some(Ok(want)), "the sweep came after it");
        assert!(hash_kv(&api, 1000).await.is_err());
    });
}

#[test]
fn a_defragmentation_gives_back_what_was_deleted_while_writes_go_on() {
    let sim = Sim::new(9, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let options = ShardOptions { grow_bytes: 4 << 20, ..options() };
        let Node { api, .. } = start(&env, options).await.expect("the disk is well");
        for key in 0..4000 {
            put(&api, key, vec![1; 10_000]).await;
        }
        let last = delete_all(&api).await;
        compact(&api, last).await;
        // It lies at the end.
        for key in 0..50 {
            put(&api, 5000 + key, vec![2; 10_000]).await;
        }
        let status = &api.published().status;
        let before = status.total_bytes();
        assert!(before > 40_000_000);
        let (writer, has_written) = (api.clone(), Rc::new(Cell::new(false)));
        let written = Rc::clone(&has_written);
        env.spawn(TaskQueue::Serve, async move {
            for key in 0..200 {
                put(&writer, 6000 + key, vec![3; 100]).await;
            }
            written.set(true);
        });
        let (one, other) = (api.clone(), Rc::new(RefCell::new(false)));
        let to = Rc::clone(&other);
        env.spawn(TaskQueue::Serve, async move {
            one.defragment(pb::DefragmentRequest {}).await.expect("defragmented");
            *to.borrow_mut() = true;
        });
        let answer = api.defragment(pb::DefragmentRequest {}).await.expect("defragmented");
        assert_eq!(answer.header, None);
        env.sleep(Duration::from_millis(1)).await;
        assert!(*other.borrow(), "both wait for the same one");
        let after = status.total_bytes();
        assert!(after < status.in_use_bytes() + (8 << 20), "{before} bytes before, {after} after");
        // With nothing to give back it is done at once.
        api.defragment(pb::DefragmentRequest {}).await.expect("defragmented");
        while !has_written.get() {
            env.sleep(Duration::from_millis(10)).await;
        }
        let all = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        assert_eq!(api.range(all).await.expect("readable").count, 250);
    });
}
