//! Watches on a member: every watcher gets exactly the events that concern it, whatever its client, the memory and the history do meanwhile.

use std::{collections::BTreeMap, time::Duration};

use plinth_base::Prng;
use plinth_env::Env;
use plinth_node::api::Api;
use plinth_rpc::{RequestMeta, etcdserverpb as pb, mvccpb};
use plinth_sim_env::{Sim, SimEnv, SimOptions};

use crate::{
    support::{Node, options, start},
    watch_client::WatchClient,
};
use pb::watch_create_request::FilterType;

const DELETE: i32 = mvccpb::event::EventType::Delete as i32;

fn create(key: &str, end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
    pb::WatchCreateRequest { key, range_end, start_revision, prev_kv: true, ..Default::default() }
}

/// The events that a store told of, as a watcher of everything with `prev_kv` would get them, and its keys.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, mvccpb::KeyValue>,
    events: Vec<mvccpb::Event>,
    revision: i64,
    compacted: i64,
}

impl Model {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let prev_kv = self.keys.get(key).cloned();
        let kv = mvccpb::KeyValue {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
            create_revision: prev_kv.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: prev_kv.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        self.keys.insert(key.to_vec(), kv.clone());
        self.events.push(mvccpb::Event { r#type: 0, kv: Some(kv), prev_kv });
    }

    fn delete(&mut self, key: &[u8]) {
        let prev_kv = self.keys.remove(key);
        let kv = mvccpb::KeyValue { key: key.to_vec().into(), mod_revision: self.revision, ..Default::default() };
        self.events.push(mvccpb::Event { r#type: DELETE, kv: Some(kv), prev_kv });
    }
}

/// Does something random, on the server and in the model.
async fn act(api: &Api<SimEnv>, model: &mut Model, rng: &mut Prng) {
    let key = |rng: &mut Prng| format!("k{:02}", rng.below(30)).into_bytes();
    // Some values are so long that a stream holds only a few of them.
    let value_bytes = if rng.chance(1, 8) { 100_000 } else { rng.index(40) };
    let value = vec![rng.below(256) as u8; value_bytes];
    match rng.below(10) {
        0 => {
            let (first, end) = (key(rng), key(rng));
            let range_end = if rng.chance(1, 2) { end.clone() } else { Vec::new() };
            let request = pb::DeleteRangeRequest {
                key: first.clone().into(),
                range_end: range_end.clone().into(),
                ..Default::default()
            };
            let response = api.delete_range(request).await.expect("deleted");
            let holds =
                |key: &Vec<u8>| if range_end.is_empty() { *key == first } else { (&first..&end).contains(&key) };
            let gone: Vec<_> = model.keys.keys().filter(|key| holds(key)).cloned().collect();
            model.revision += i64::from(!gone.is_empty());
            assert_eq!(response.deleted, gone.len() as i64);
            gone.iter().for_each(|key| model.delete(key));
        }
        1 => {
            let keys: std::collections::BTreeSet<_> = (0..4).map(|_| key(rng)).collect();
            let put = |key: &Vec<u8>| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                    key: key.clone().into(),
                    value: value.clone().into(),
                    ..Default::default()
                })),
            };
            let txn = pb::TxnRequest { success: keys.iter().map(put).collect(), ..Default::default() };
            api.txn(txn).await.expect("carried out");
            model.revision += 1;
            keys.iter().for_each(|key| model.put(key, &value));
        }
        2 if rng.chance(1, 4) && model.revision > model.compacted + 5 => {
            let revision = model.compacted + 1 + rng.below((model.revision - model.compacted) as u64) as i64;
            let physical = rng.chance(1, 2);
            api.compact(pb::CompactionRequest { revision, physical }).await.expect("compacted");
            model.compacted = revision;
        }
        _ => {
            let key = key(rng);
            let request = pb::PutRequest { key: key.clone().into(), value: value.clone().into(), ..Default::default() };
            let response = api.put(request).await.expect("put");
            model.revision += 1;
            assert_eq!(response.header.expect("a header").revision, model.revision);
            model.put(&key, &value);
        }
    }
}

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().expect("an event has a key").mod_revision
}

/// What one watcher asked for and has got.
struct Watched {
    create: pb::WatchCreateRequest,
    stream: usize,
    id: i64,
    first: i64,
    events: Vec<mvccpb::Event>,
    compacted: Option<i64>,
    is_created: bool,
    is_canceled: bool,
}

impl Watched {
    fn wants(&self, event: &mvccpb::Event) -> bool {
        let kv = event.kv.as_ref().expect("an event has a key");
        let (key, end) = (&self.create.key, &self.create.range_end);
        let is_in = match end.as_ref() {
            [] => kv.key == *key,
            [0] => kv.key >= *key,
            end => kv.key >= *key && *kv.key < *end,
        };
        let filter = if event.r#type == DELETE { FilterType::Nodelete } else { FilterType::Noput };
        is_in && kv.mod_revision >= self.first && !self.create.filters.contains(&(filter as i32))
    }

    /// Its events are those that it should have, each as it was when it was sent: without its predecessor if that was compacted by then.
    fn check(&self, model: &Model) {
        let mut wanted = model.events.iter().filter(|event| self.wants(event));
        for got in &self.events {
            let want = wanted.next().expect("no event comes of nothing");
            let kv = got.kv.as_ref().expect("an event has a key");
            assert_eq!((got.r#type, Some(kv)), (want.r#type, want.kv.as_ref()));
            let may_lack = !self.create.prev_kv || kv.mod_revision <= model.compacted;
            assert!(got.prev_kv == want.prev_kv || may_lack && got.prev_kv.is_none(), "{got:?} is not {want:?}");
        }
        let missing = wanted.next().map(revision_of);
        if let Some(compacted) = self.compacted {
            // It needed something that was gone.
            assert!(self.first < compacted && self.events.last().map_or(0, revision_of) < compacted);
        } else if !self.is_canceled {
            assert_eq!(missing, None, "an event is missing");
        }
    }
}

/// Takes in what a stream has received; checks what holds for each response.
fn take_in(stream: usize, client: &WatchClient, all: &mut [Watched], model: &Model) {
    for response in client.take() {
        let header = response.header.expect("a header");
        let watched = all.iter_mut().find(|one| one.stream == stream && one.id == response.watch_id);
        if response.watch_id == -1 {
            assert!(response.events.is_empty() && header.revision <= model.revision);
            // Whoever was told before that it exists has been given everything up to there.
            let is_alive = |one: &&Watched| one.is_created && one.compacted.is_none() && !one.is_canceled;
            for one in all.iter().filter(|one| one.stream == stream).filter(is_alive) {
                assert!(one.first <= header.revision + 1, "a watcher that waits for a revision to come");
                let is_past = |event: &&mvccpb::Event| revision_of(event) <= header.revision;
                let due = model.events.iter().filter(is_past).filter(|event| one.wants(event)).count();
                assert!(one.events.len() >= due, "progress is ahead of an event");
            }
            continue;
        }
        let watched = watched.expect("an id that was chosen");
        if response.compact_revision != 0 {
            assert!(response.canceled && header.revision == 0 && watched.compacted.is_none());
            watched.compacted = Some(response.compact_revision);
        } else if response.canceled {
            watched.is_canceled = true;
        } else if response.created {
            watched.is_created = true;
        } else {
            assert!(watched.is_created, "nothing comes before that");
            let last = response.events.last().expect("nobody asked to be told of progress");
            assert!(header.revision >= revision_of(last));
            // A revision comes in one response.
            let first = revision_of(&response.events[0]);
            let before = watched.events.last().map_or(0, revision_of);
            assert!(before < first, "revision {first} after {before}");
            assert!(!watched.is_canceled && watched.compacted.is_none(), "nothing comes after the end");
            watched.events.extend(response.events);
        }
    }
}

fn random_history(seed: u64) {
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut rng = Prng::new(seed);
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let mut model = Model { revision: 1, ..Model::default() };
        let clients: Vec<_> = (0..4).map(|_| WatchClient::open(&env, &api, RequestMeta::default())).collect();
        let mut all: Vec<Watched> = Vec::new();
        for step in 0..600 {
            act(&api, &mut model, &mut rng).await;
            if rng.chance(1, 8) {
                let stream = rng.index(clients.len());
                let (key, end) = (format!("k{:02}", rng.below(30)), format!("k{:02}~", rng.below(30)));
                let ends = ["", "\0", "l", &end];
                let end = if key < end { ends[rng.index(4)] } else { ends[rng.index(3)] };
                let start = match rng.below(4) {
                    0 => 0,
                    1 => model.revision + 1 + rng.below(20) as i64,
                    _ => 1 + rng.below(model.revision as u64 + 1) as i64,
                };
                let filters = if rng.chance(1, 4) { vec![rng.below(2) as i32] } else { Vec::new() };
                let id = step + 1;
                let create = pb::WatchCreateRequest {
                    filters,
                    watch_id: id,
                    prev_kv: rng.chance(1, 2),
                    ..create(&key, end, start)
                };
                clients[stream].create(create.clone());
                let first = if start == 0 { model.revision + 1 } else { start };
                all.push(Watched {
                    create,
                    stream,
                    id,
                    first,
                    events: Vec::new(),
                    compacted: None,
                    is_created: false,
                    is_canceled: false,
                });
                // The request is looked at before the next change, unless the stream waits for its client.
                while clients[stream].waiting_requests() > 0 {
                    clients[stream].pause(false);
                    env.sleep(Duration::from_micros(100)).await;
                }
            }
            let stream = rng.index(clients.len());
            match rng.below(16) {
                0 => clients[stream].pause(true),
                1 | 2 => clients[stream].pause(false),
                3 => clients[stream].ask_progress(),
                4 if !all.is_empty() => {
                    let one = rng.index(all.len());
                    clients[all[one].stream].cancel(all[one].id);
                }
                5 => env.sleep(Duration::from_millis(5)).await,
                _ => {}
            }
            for (stream, client) in clients.iter().enumerate() {
                take_in(stream, client, &mut all, &model);
            }
        }
        // Who has ended its side listens all the same.
        clients[0].close();
        clients.iter().for_each(|client| client.pause(false));
        env.sleep(Duration::from_secs(2)).await;
        for (stream, client) in clients.iter().enumerate() {
            take_in(stream, client, &mut all, &model);
        }
        all.iter().for_each(|one| one.check(&model));
        assert!(all.iter().map(|one| one.events.len()).sum::<usize>() > 1000);
        let watches = api.published().watches.clone();
        assert_eq!(watches.behind.get(), 0);
        clients.iter().for_each(WatchClient::vanish);
        env.sleep(Duration::from_millis(1)).await;
        assert_eq!((watches.streams.get(), watches.watchers.get()), (0, 0));
    });
}

#[test]
fn every_watcher_gets_exactly_the_events_that_concern_it() {
    for seed in 0..30 {
        random_history(seed);
    }
}

#[test]
fn progress_is_told_behind_everything_before_and_only_if_nobody_waits() {
    let sim = Sim::new(3, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let client = WatchClient::open(&env, &api, RequestMeta::default());
        client.ask_progress();
        client.create(create("a", "b", 0));
        let created = client.next().await;
        assert!(created.created && created.watch_id == 0 && created.header.expect("a header").revision == 1);
        let request = |key: &'static str| pb::PutRequest { key: key.into(), ..Default::default() };
        api.put(request("a")).await.expect("put");
        api.put(request("z")).await.expect("put");
        client.ask_progress();
        assert_eq!(client.next().await.events.len(), 1);
        let progress = client.next().await;
        assert!(progress.watch_id == -1 && progress.events.is_empty());
        assert_eq!(progress.header.expect("a header").revision, 3);
        client.create(create("a", "b", 9));
        assert!(client.next().await.created);
        client.ask_progress();
        env.sleep(Duration::from_secs(1)).await;
        assert!(client.take().is_empty(), "a watcher waits for revision 9");
        client.cancel(1);
        assert!(client.next().await.canceled);
        client.ask_progress();
        assert_eq!(client.next().await.header.expect("a header").revision, 3);
    });
}

#[test]
fn a_client_that_asks_and_does_not_read_has_to_wait() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let client = WatchClient::open(&env, &api, RequestMeta::default());
        client.pause(true);
        for _ in 0..20_000 {
            client.create(create("a", "", 0));
        }
        env.sleep(Duration::from_secs(1)).await;
        let waiting = client.waiting_requests();
        assert!(waiting > 10_000, "{waiting} requests wait");
        client.pause(false);
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!((client.waiting_requests(), client.take().len()), (0, 20_000));
    });
}

#[test]
fn ten_thousand_watchers_of_one_key_all_get_it_also_those_that_read_slowly() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let clients: Vec<_> = (0..100).map(|_| WatchClient::open(&env, &api, RequestMeta::default())).collect();
        for client in &clients {
            (0..100).for_each(|_| client.create(create("a", "", 0)));
        }
        env.sleep(Duration::from_secs(1)).await;
        clients.iter().for_each(|client| drop(client.take()));
        clients.iter().step_by(2).for_each(|client| client.pause(true));
        const PUTS: usize = 10;
        for _ in 0..PUTS {
            let request = pb::PutRequest { key: "a".into(), value: vec![7; 10_000].into(), ..Default::default() };
            api.put(request).await.expect("no put waits for a watcher");
        }
        env.sleep(Duration::from_secs(1)).await;
        assert!(api.published().watches.behind.get() > 0);
        clients.iter().for_each(|client| client.pause(false));
        env.sleep(Duration::from_secs(10)).await;
        for client in &clients {
            let mut events = vec![Vec::new(); 100];
            for response in client.take() {
                let of_one = &mut events[response.watch_id as usize];
                of_one.extend(response.events.iter().map(revision_of));
            }
            let want: Vec<_> = (2..2 + PUTS as i64).collect();
            assert!(events.iter().all(|of_one| *of_one == want));
        }
        assert_eq!(api.published().watches.behind.get(), 0);
    });
}

#[test]
fn a_deletion_of_very_many_keys_reaches_watchers_whole() {
    const KEYS: usize = 100_000;
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        for some in (0..KEYS).collect::<Vec<_>>().chunks(100) {
            let put = |key: &usize| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                    key: format!("{key:08}").into(),
                    ..Default::default()
                })),
            };
            api.txn(pb::TxnRequest { success: some.iter().map(put).collect(), ..Default::default() })
                .await
                .expect("put");
        }
        let client = WatchClient::open(&env, &api, RequestMeta::default());
        client.create(create("0", "\0", 0));
        client.create(pb::WatchCreateRequest { fragment: true, ..create("0", "\0", 0) });
        assert!(client.next().await.created && client.next().await.created);
        let request = pb::DeleteRangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
        api.delete_range(request).await.expect("deleted");
        env.sleep(Duration::from_secs(5)).await;
        let (mut whole, mut fragments) = (Vec::new(), Vec::new());
        for response in client.take() {
            if response.watch_id == 0 { whole.push(response) } else { fragments.push(response) }
        }
        assert!(whole.len() == 1 && whole[0].events.len() == KEYS);
        let (last, others) = fragments.split_last().expect("it got something");
        assert!(!others.is_empty() && others.iter().all(|one| one.fragment) && !last.fragment);
        let events: Vec<_> = fragments.iter().flat_map(|one| one.events.clone()).collect();
        assert_eq!(events, whole[0].events);
    });
}

#[test]
fn bad_requests_get_etcds_answers_and_the_stream_goes_on() {
    let sim = Sim::new(7, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = start(&env, options()).await.expect("the disk is well");
        let client = WatchClient::open(&env, &api, RequestMeta::default());
        let refused = |reason: &'static str| {
            move |response: pb::WatchResponse| {
                assert!(response.created && response.canceled && response.watch_id == -1);
                assert_eq!(response.cancel_reason, reason);
            }
        };
        client.create(create("b", "a", 0));
        refused("mvcc: watcher range is empty")(client.next().await);
        client.create(create("a", "", -1));
        refused("etcdserver: mvcc: required revision has been compacted")(client.next().await);
        client.create(pb::WatchCreateRequest { watch_id: 5, ..create("a", "", 0) });
        assert_eq!(client.next().await.watch_id, 5);
        client.create(pb::WatchCreateRequest { watch_id: 5, ..create("a", "", 0) });
        refused("mvcc: duplicate watch ID provided on the WatchStream")(client.next().await);
        client.cancel(77);
        // No key is every key.
        client.create(create("", "\0", 0));
        assert_eq!(client.next().await.watch_id, 0);
        for _ in 0..5 {
            client.create(create("a", "", 0));
        }
        let ids: Vec<_> = [client.next().await, client.next().await, client.next().await, client.next().await]
            .map(|response| response.watch_id)
            .into();
        assert_eq!(ids, [1, 2, 3, 4], "5 is in use");
        assert_eq!(client.next().await.watch_id, 6);
        let mut meta = RequestMeta::default();
        meta.has_leader = true;
        let leader_wanted = WatchClient::open(&env, &api, meta);
        leader_wanted.create(create("a", "", 0));
        assert!(leader_wanted.next().await.created);
    });
}
