//! Long range replies: whatever way they are made, the bytes are the same.

use std::time::Duration;

use bytes::Bytes;
use plinth_base::Prng;
use plinth_env::Env;
use plinth_node::api::{Api, ApiOptions};
use plinth_rpc::{
    ChunkSource, Frame, Gone, Method, NOT_AS_ANNOUNCED, Replies, Reply, RequestMeta, Requests, Status, errors,
    etcdserverpb as pb,
};
use plinth_sim_env::{Chance, Faults, Sim, SimEnv, SimOptions};
use prost::Message as _;

use crate::support::{Node, options, start};

const SEEDS: u64 = 6;
const KEYS: u64 = 60;
const WRITES: u64 = 300;
const QUERIES: u64 = 60;

/// The same node, whose replies are made in chunks when they are longer than `bytes`.
fn chunked(api: &Api<SimEnv>, bytes: usize) -> Api<SimEnv> {
    api.clone().with_options(ApiOptions { reply_buffer_bytes: bytes, ..api.options().clone() })
}

fn in_one_buffer(api: &Api<SimEnv>) -> Api<SimEnv> {
    chunked(api, usize::MAX / 2)
}

fn key(prng: &mut Prng) -> Bytes {
    let number = prng.below(KEYS);
    // Some are long: they have a part outside of their page.
    let tail = if number.is_multiple_of(7) { "x".repeat(700) } else { String::new() };
    format!("{number:03}{tail}").into()
}

async fn write(api: &Api<SimEnv>, prng: &mut Prng) {
    if prng.chance(1, 8) {
        let delete = pb::DeleteRangeRequest { key: key(prng), ..Default::default() };
        api.delete_range(delete).await.expect("deleted");
        return;
    }
    let bytes = [0, 1, 20, 127, 128, 300, 2000, 9000][prng.index(8)];
    let lease = if prng.chance(1, 4) { 1 } else { 0 };
    let value = vec![b'v'; bytes + prng.index(3)].into();
    api.put(pb::PutRequest { key: key(prng), value, lease, ..Default::default() }).await.expect("put");
}

/// A node with a history.
async fn filled(env: &SimEnv, prng: &mut Prng) -> Api<SimEnv> {
    let Node { api, .. } = start(env, options()).await.expect("the disk is well");
    api.lease_grant(pb::LeaseGrantRequest { id: 1, ttl: 1_000_000 }).await.expect("granted");
    for _ in 0..WRITES {
        write(&api, prng).await;
    }
    api
}

fn revision(api: &Api<SimEnv>) -> i64 {
    api.published().root().state.revision
}

fn random_query(prng: &mut Prng, newest: i64) -> pb::RangeRequest {
    let end = match prng.below(4) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        _ => key(prng),
    };
    let mut some = |one_in| if prng.chance(1, one_in) { 1 + prng.below(newest.unsigned_abs()) as i64 } else { 0 };
    let (revision, min_mod_revision, max_create_revision) = (some(2), some(5), some(5));
    pb::RangeRequest {
        key: if prng.chance(1, 3) { Bytes::from_static(&[0]) } else { key(prng) },
        range_end: end,
        limit: if prng.chance(1, 2) { prng.below(KEYS) as i64 } else { 0 },
        revision,
        min_mod_revision,
        max_create_revision,
        max_mod_revision: 0,
        min_create_revision: 0,
        sort_order: if prng.chance(1, 3) { prng.below(3) as i32 } else { 0 },
        sort_target: if prng.chance(1, 3) { prng.below(5) as i32 } else { 0 },
        serializable: prng.chance(1, 2),
        keys_only: prng.chance(1, 5),
        count_only: prng.chance(1, 20),
    }
}

async fn reply(api: &Api<SimEnv>, request: &pb::RangeRequest) -> Result<Reply, Status> {
    api.unary(Method::Range, request.encode_to_vec().into(), &RequestMeta::default()).await
}

/// All pieces of a message, with something done before each.
async fn drain(
    message_len: u64,
    source: &mut dyn ChunkSource,
    prng: &mut Prng,
    mut between: impl AsyncFnMut(&mut Prng),
) -> Result<Vec<u8>, Status> {
    let mut message = Vec::new();
    while (message.len() as u64) < message_len {
        between(prng).await;
        let bytes_max = [1, 3, 100, 2000, 65_536][prng.index(5)];
        let chunk = source.next_chunk(bytes_max).await?;
        assert!(!chunk.is_empty() && chunk.len() <= bytes_max, "{} bytes of at most {bytes_max}", chunk.len());
        message.extend_from_slice(&chunk);
    }
    assert_eq!(message.len() as u64, message_len);
    Ok(message)
}

fn simulate(seed: u64, main: impl AsyncFnOnce(SimEnv, Prng)) {
    let faults = Faults { page_miss: Chance::one_in(10), ..Faults::default() };
    let sim = Sim::new(seed, SimOptions { faults, ..SimOptions::default() });
    sim.block_on(main(sim.env(), Prng::new(seed)));
}

async fn chunks_beside_writes(env: SimEnv, mut prng: Prng) {
    let api = filled(&env, &mut prng).await;
    let mut in_chunks = 0;
    for _ in 0..QUERIES {
        let request = random_query(&mut prng, revision(&api));
        let want = reply(&in_one_buffer(&api), &request).await.expect("a sound request");
        let want = want.into_message().await.expect("it is in one buffer");
        let buffer = prng.index(400);
        let got = match reply(&chunked(&api, buffer), &request).await.expect("a sound request") {
            Reply::Message(frame) => frame.message(),
            Reply::Chunked { message_len, mut source } => {
                in_chunks += 1;
                let write_sometimes = async |prng: &mut Prng| {
                    if prng.chance(1, 10) {
                        write(&api, prng).await;
                    }
                };
                drain(message_len, &mut *source, &mut prng, write_sometimes).await.expect("nothing is compacted").into()
            }
        };
        assert!(got == want, "{request:?}\nwant {} bytes, got {}", want.len(), got.len());
    }
    assert!(in_chunks > QUERIES / 3, "only {in_chunks} replies came in chunks");
}

#[test]
fn a_reply_in_chunks_is_the_reply_in_one_buffer() {
    (0..SEEDS).for_each(|seed| simulate(seed, chunks_beside_writes));
}

/// One request.
struct Once(Option<Bytes>);

impl Requests for Once {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        self.0.take().map(Ok)
    }
}

/// Keeps the messages of a stream, and writes or compacts between them.
struct Kept<'a> {
    api: &'a Api<SimEnv>,
    prng: &'a mut Prng,
    messages: &'a mut Vec<Bytes>,
    compact: bool,
}

impl Kept<'_> {
    async fn between(&mut self) {
        if self.compact {
            let compact = pb::CompactionRequest { revision: revision(self.api), physical: false };
            self.api.compact(compact).await.expect("compacted");
            self.compact = false;
        }
        write(self.api, self.prng).await;
    }
}

impl Replies for Kept<'_> {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        self.messages.push(frame.message());
        self.between().await;
        Ok(())
    }

    async fn send_chunked(&mut self, message_len: u64, source: &mut dyn ChunkSource) -> Result<(), Status> {
        let message = drain(message_len, source, self.prng, async |_: &mut Prng| {}).await?;
        self.messages.push(message.into());
        self.between().await;
        Ok(())
    }
}

async fn stream(
    api: &Api<SimEnv>,
    request: &pb::RangeRequest,
    prng: &mut Prng,
    compact: bool,
) -> (Vec<Bytes>, Result<(), Status>) {
    let mut messages = Vec::new();
    let replies = Kept { api, prng, messages: &mut messages, compact };
    let request = Once(Some(request.encode_to_vec().into()));
    let end = api.stream(Method::RangeStream, &RequestMeta::default(), request, replies).await;
    (messages, end)
}

async fn streams_beside_writes(env: SimEnv, mut prng: Prng) {
    let api = filled(&env, &mut prng).await;
    for _ in 0..QUERIES {
        let request = pb::RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_create_revision: 0,
            ..random_query(&mut prng, revision(&api))
        };
        let want = in_one_buffer(&api).range(request.clone()).await.expect("a sound request");
        let buffer = prng.index(3000);
        let (messages, end) = stream(&chunked(&api, buffer), &request, &mut prng, false).await;
        assert_eq!(end, Ok(()));
        let (mut merged, mut last_key) = (pb::RangeStreamResponse::default(), Bytes::new());
        for (at, message) in messages.iter().enumerate() {
            let one = pb::RangeStreamResponse::decode(message.clone()).expect("a message").range_response;
            let one = one.expect("every message has it");
            let is_last = at + 1 == messages.len();
            assert_eq!(one.header.is_some(), is_last);
            assert!(is_last || (one.count == 0 && !one.more && !one.kvs.is_empty()));
            assert!(at > 0 || one.kvs.len() <= 10, "the first message has few keys");
            for kv in &one.kvs {
                assert!(last_key < kv.key, "keys ascend");
                last_key = kv.key.clone();
            }
            merged.merge(message.clone()).expect("a message");
        }
        assert_eq!(merged.range_response, Some(want), "{request:?}");
    }
}

#[test]
fn the_messages_of_a_stream_add_up_to_the_reply() {
    (0..SEEDS).for_each(|seed| simulate(seed, streams_beside_writes));
}

#[test]
fn a_stream_whose_revision_is_compacted_ends_out_of_range() {
    simulate(1, async |env, mut prng| {
        let api = filled(&env, &mut prng).await;
        let all = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        write(&api, &mut prng).await;
        let old = pb::RangeRequest { revision: revision(&api) - 1, ..all };
        let (messages, end) = stream(&api, &old, &mut prng, true).await;
        assert_eq!((messages.len(), end), (1, Err(errors::COMPACTED)));
    });
}

#[test]
fn a_reply_whose_revision_is_swept_away_ends_out_of_range_after_a_while() {
    simulate(2, async |env, mut prng| {
        let api = filled(&env, &mut prng).await;
        let all = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        for (wait, end) in [(Duration::from_secs(1), Ok(())), (Duration::from_secs(60), Err(errors::COMPACTED))] {
            let Ok(Reply::Chunked { message_len, mut source }) = reply(&chunked(&api, 100), &all).await else {
                panic!("it is long")
            };
            let begun = source.next_chunk(100).await.expect("nothing is compacted yet");
            for _ in 0..100 {
                write(&api, &mut prng).await;
            }
            let compact = pb::CompactionRequest { revision: revision(&api), physical: false };
            api.compact(compact).await.expect("compacted");
            env.sleep(wait).await;
            let left = message_len - begun.len() as u64;
            let got = drain(left, &mut *source, &mut prng, async |_: &mut Prng| {}).await;
            assert_eq!(got.map(drop), end, "after {wait:?}");
        }
    });
}

#[test]
fn what_a_stream_can_not_be_asked_for_is_refused_before_anything_else() {
    simulate(3, async |env, mut prng| {
        let api = filled(&env, &mut prng).await;
        let one = pb::RangeRequest { key: "a".into(), ..Default::default() };
        for (request, want) in [
            (pb::RangeRequest { sort_order: 2, ..Default::default() }, errors::RANGE_STREAM_SORT),
            (pb::RangeRequest { sort_order: 3, min_mod_revision: 1, ..one.clone() }, errors::RANGE_STREAM_SORT),
            (pb::RangeRequest { min_mod_revision: 1, ..Default::default() }, errors::RANGE_STREAM_FILTER),
            (pb::RangeRequest { limit: 1, ..Default::default() }, errors::EMPTY_KEY),
            (pb::RangeRequest { sort_target: 5, ..one.clone() }, errors::INVALID_SORT_OPTION),
            (pb::RangeRequest { sort_order: 2, min_mod_revision: 1, ..one.clone() }, errors::RANGE_STREAM_SORT),
            (pb::RangeRequest { sort_order: 1, sort_target: 1, ..one.clone() }, errors::RANGE_STREAM_SORT),
            (pb::RangeRequest { sort_order: 1, max_create_revision: 1, ..one.clone() }, errors::RANGE_STREAM_FILTER),
            (pb::RangeRequest { revision: 1 << 40, ..one.clone() }, errors::FUTURE_REVISION),
        ] {
            let (messages, end) = stream(&api, &request, &mut prng, false).await;
            assert_eq!((messages.len(), end), (0, Err(want)), "{request:?}");
        }
        // Without an order the target means nothing.
        let (messages, end) = stream(&api, &pb::RangeRequest { sort_target: 4, ..one }, &mut prng, false).await;
        assert_eq!((messages.len(), end), (1, Ok(())));
        let none = api.stream(Method::RangeStream, &RequestMeta::default(), Once(None), NoReplies).await;
        assert_eq!(none.map_err(|status| status.message), Err("EOF".into()));
    });
}

struct NoReplies;

impl Replies for NoReplies {
    async fn send(&mut self, _: Frame) -> Result<(), Gone> {
        Err(Gone)
    }

    async fn send_chunked(&mut self, _: u64, _: &mut dyn ChunkSource) -> Result<(), Status> {
        Err(NOT_AS_ANNOUNCED)
    }
}
