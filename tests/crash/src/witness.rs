//! A client that watches everything, and what it must have seen after a crash: every change that is there, each revision whole, once and in order,
//! and none that is not there. An event of a write that a crash takes back would be one: nobody may see what is not durable.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use plinth_client::{Call, Client, Code, Status};
use plinth_rpc::{etcdserverpb as pb, mvccpb};
use prost::Message;
use tokio::time::timeout;

use crate::{
    model::{Record, State},
    workload::{Shared, fetch, record},
};

const PATH: &str = "/etcdserverpb.Watch/Watch";

/// How long catching up may take after a start.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// What a watch has told.
#[derive(Default, Debug)]
pub struct Witness {
    /// Of each revision that is not judged yet: its keys, with what was set or `None` for what was removed.
    seen: BTreeMap<i64, BTreeMap<Bytes, Option<Record>>>,
    /// The first revision to ask for; all before it were told or skipped.
    next: i64,
    /// Revisions below this one may be missing: a compaction was faster.
    skipped_below: i64,
    /// What was wrong at once.
    wrong: Option<String>,
    events: usize,
}

impl Witness {
    /// Of an empty store, whose revision is 1.
    #[must_use]
    pub fn new() -> Self {
        Self { next: 2, ..Self::default() }
    }

    /// Events that were told and judged.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }

    /// Takes a message in. `compacted` is the newest compaction that anybody asked for.
    fn take(&mut self, message: pb::WatchResponse, compacted: i64) {
        if message.compact_revision > 0 {
            if message.compact_revision <= self.next || message.compact_revision > compacted {
                let (next, told) = (self.next, message.compact_revision);
                self.wrong.get_or_insert(format!("a watch from {next} was told of a compaction to {told}"));
            }
            self.skipped_below = message.compact_revision;
            self.next = message.compact_revision;
            return;
        }
        let from = self.next;
        for event in message.events {
            let is_removal = event.r#type() == mvccpb::event::EventType::Delete;
            let Some(kv) = event.kv else { continue };
            let (revision, (key, record)) = (kv.mod_revision, record(kv));
            if revision < from || revision + 1 < self.next {
                self.wrong.get_or_insert(format!("revision {revision} was told after {}", self.next - 1));
            }
            self.next = revision + 1;
            let is_first =
                self.seen.entry(revision).or_default().insert(key, (!is_removal).then_some(record)).is_none();
            if !is_first {
                self.wrong.get_or_insert(format!("a key of revision {revision} was told twice"));
            }
            self.events += 1;
        }
    }

    /// Holds what was told of a revision against what it did: `state` is after it, `touched` are the keys that it set or removed.
    pub fn judge(&mut self, revision: i64, state: &State, touched: &[Bytes]) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let Some(told) = self.seen.remove(&revision) else {
            return if revision < self.skipped_below { Ok(()) } else { Err("no watch was told of it".to_owned()) };
        };
        let done: BTreeMap<Bytes, Option<Record>> =
            touched.iter().map(|key| (key.clone(), state.0.get(key).cloned())).collect();
        if told == done {
            return Ok(());
        }
        Err(format!("a watch was told {told:?}, and it did {done:?}"))
    }

    /// After all revisions were judged: nothing was told of others.
    pub fn conclude(&mut self) -> Result<(), String> {
        match self.seen.pop_first() {
            Some((revision, told)) => {
                Err(format!("a watch was told of revision {revision}, which isn't there: {told:?}"))
            }
            None => Ok(()),
        }
    }
}

/// Watches on a connection of its own until something fails.
pub async fn watch_until_failure(addr: SocketAddr, shared: Rc<RefCell<Shared>>) {
    let status = match Client::connect(addr).await {
        Ok(client) => {
            let next = || shared.borrow().witness.next;
            let take = |message| {
                let Shared { history, witness, .. } = &mut *shared.borrow_mut();
                witness.take(message, history.compaction_asked_for());
            };
            watch(&client, next, take, |_| false).await.expect_err("it goes on until something fails")
        }
        Err(status) => status,
    };
    shared.borrow_mut().ended.push(status);
}

/// Asks a server that was just started for what is missing up to its newest revision. `compacted` is the newest compaction that anybody asked for.
pub async fn catch_up(client: &Client, witness: &mut Witness, compacted: i64) -> Result<Result<(), String>, Status> {
    let newest = fetch(client, 0).await?.newest_revision;
    let witness = RefCell::new(witness);
    let next = || witness.borrow().next;
    let take = |message| witness.borrow_mut().take(message, compacted);
    match timeout(CATCH_UP_MAX, watch(client, next, take, |next| next > newest)).await {
        Ok(done) => done.map(Ok),
        Err(_) => Ok(Err(format!("a watch waits for revision {} of {newest}", next()))),
    }
}

/// Watches everything from `next()` on, until `is_done` of that. A compaction ends a watch; the next one begins behind it.
async fn watch(
    client: &Client,
    next: impl Fn() -> i64,
    mut take: impl FnMut(pb::WatchResponse),
    is_done: impl Fn(i64) -> bool,
) -> Result<(), Status> {
    while !is_done(next()) {
        let mut stream = client.stream(PATH, Call::raw(&[])).await?;
        stream.send(&create_request(next()).encode_to_vec())?;
        let mut is_canceled = false;
        while !is_canceled && !is_done(next()) {
            let message = pb::WatchResponse::decode(stream.next().await?)
                .map_err(|error| Status::new(Code::INTERNAL, format!("undecodable message: {error}")))?;
            is_canceled = message.canceled;
            take(message);
        }
    }
    Ok(())
}

fn create_request(start_revision: i64) -> pb::WatchRequest {
    let all = Bytes::from_static(b"\0");
    let create = pb::WatchCreateRequest { key: all.clone(), range_end: all, start_revision, ..Default::default() };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &'static str, revision: i64, version: i64) -> mvccpb::Event {
        let removed = version == 0;
        let kv = mvccpb::KeyValue { key: key.into(), mod_revision: revision, version, ..Default::default() };
        mvccpb::Event { r#type: i32::from(removed), kv: Some(kv), prev_kv: None }
    }

    fn message(events: Vec<mvccpb::Event>) -> pb::WatchResponse {
        pb::WatchResponse { events, ..Default::default() }
    }

    /// The state after `a` was set at revision 2, `b` at 3, and `a` removed at 3 too.
    fn judged(witness: &mut Witness) -> Result<(), String> {
        let record = |modified| Record { value: Bytes::new(), created: 0, modified, version: 1, lease: 0 };
        let [a, b] = ["a", "b"].map(Bytes::from);
        witness.judge(2, &State(BTreeMap::from([(a.clone(), record(2))])), std::slice::from_ref(&a))?;
        witness.judge(3, &State(BTreeMap::from([(b.clone(), record(3))])), &[b, a])?;
        witness.conclude()
    }

    #[test]
    fn whole_revisions_in_order_are_right() {
        let mut witness = Witness::new();
        witness.take(message(vec![event("a", 2, 1)]), 0);
        witness.take(message(vec![event("a", 3, 0), event("b", 3, 1)]), 0);
        assert_eq!((judged(&mut witness), witness.events(), witness.next), (Ok(()), 3, 4));
        // A compaction that somebody asked for excuses what is below it.
        let mut witness = Witness::new();
        witness.take(pb::WatchResponse { compact_revision: 3, canceled: true, ..Default::default() }, 3);
        witness.take(message(vec![event("a", 3, 0), event("b", 3, 1)]), 3);
        assert_eq!(judged(&mut witness), Ok(()));
    }

    #[test]
    fn whatever_is_missing_split_doubled_reordered_or_invented_is_found() {
        let (one, two) = (vec![event("a", 2, 1)], vec![event("a", 3, 0), event("b", 3, 1)]);
        for (messages, says) in [
            (vec![two.clone()], "no watch was told"),
            (vec![one.clone(), two[..1].to_vec()], "and it did"),
            (vec![one.clone(), two[..1].to_vec(), two[1..].to_vec()], "was told after"),
            (vec![one.clone(), one.clone(), two.clone()], "was told after"),
            (vec![two.clone(), one.clone()], "was told after"),
            (vec![one.clone(), two.clone(), vec![event("a", 4, 1)]], "which isn't there"),
            (vec![one.clone(), vec![event("a", 3, 1), event("b", 3, 1)]], "and it did"),
        ] {
            let mut witness = Witness::new();
            messages.into_iter().for_each(|events| witness.take(message(events), 0));
            let error = judged(&mut witness).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
        let mut witness = Witness::new();
        witness.take(pb::WatchResponse { compact_revision: 3, canceled: true, ..Default::default() }, 0);
        assert!(judged(&mut witness).expect_err("nobody asked for it").contains("of a compaction to 3"));
    }
}
