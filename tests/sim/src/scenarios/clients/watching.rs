//! Watchers of one group, on streams whose clients are sometimes slow. What each was sent is noted, and judged when the history is known.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use plinth_base::{Instant, Prng};
use plinth_env::{Env, TaskQueue};
use plinth_node::api::Api;
use plinth_rpc::{
    ChunkSource, Frame, Gone, Method, Replies, RequestMeta, Requests, Status, errors, etcdserverpb as pb, mvccpb,
};
use prost::Message as _;

use super::Shared;
use crate::{
    history::History,
    watch::{self, Circumstances, Event, Reply, Watch},
    wire,
};
use pb::watch_request::RequestUnion;

/// Streams of a group in each life.
const STREAMS: usize = 2;

/// A watcher that nothing is in the way of has everything that happened until so long ago.
const TIME_ENOUGH: Duration = Duration::from_secs(3);

/// The far future, when nothing happens any more.
const NEVER: Instant = Instant(u64::MAX / 2);

/// What one watcher was sent.
#[derive(Debug)]
pub(in crate::scenarios) struct Recording {
    watch: Watch,
    replies: Vec<Reply>,
    known: Circumstances,
    /// Since when nothing was in its way.
    free_since: Instant,
}

/// All watchers of a stream, by their ids.
pub(in crate::scenarios) type Recordings = Rc<RefCell<BTreeMap<i64, Recording>>>;

/// Opens the streams of a life.
pub(in crate::scenarios) fn begin<E: Env>(
    env: &E,
    api: &Api<E>,
    clients: &Shared,
    prng: &mut Prng,
    pause_max: Duration,
) {
    for _ in 0..STREAMS {
        let recordings = Recordings::default();
        clients.borrow_mut().watched.push(Rc::clone(&recordings));
        let is_slow = Rc::new(Cell::new(false));
        let asks = Asks {
            env: env.clone(),
            api: api.clone(),
            clients: Rc::clone(clients),
            recordings: Rc::clone(&recordings),
            prng: prng.fork(),
            pause_max,
            next_id: 1,
            is_slow: Rc::clone(&is_slow),
        };
        let hears = Hears { env: env.clone(), api: api.clone(), clients: Rc::clone(clients), recordings, is_slow };
        let (api, shared) = (api.clone(), Rc::clone(clients));
        env.spawn(TaskQueue::Serve, async move {
            if let Err(status) = api.stream(Method::Watch, &RequestMeta::default(), asks, hears).await
                && status != errors::NOT_SUPPORTED_FOR_LEARNER
            {
                shared.borrow_mut().strange.push(status);
            }
        });
    }
}

/// The streams are cut: whatever time passes, nothing more comes.
pub(in crate::scenarios) fn cut(recordings: &Recordings) {
    recordings.borrow_mut().values_mut().for_each(|recording| recording.free_since = NEVER);
}

/// Proves what the watchers of the last life were sent. The history has been checked up to the restart.
pub(in crate::scenarios) fn check(watched: &[Recordings], history: &History) -> Result<(), String> {
    let life = history.life();
    for recordings in watched {
        for (id, recording) in &*recordings.borrow() {
            let mut known = recording.known;
            if recording.free_since + TIME_ENOUGH <= life.well_until {
                known.all_until = life.revision_at(Instant(life.well_until.0 - TIME_ENOUGH.as_nanos() as u64));
            }
            let checked = watch::check(&recording.watch, &recording.replies, history.model(), known);
            checked.map_err(|what| format!("watcher {id}: {what}"))?;
        }
    }
    Ok(())
}

/// The requests of a stream's client: it never ends.
struct Asks<E: Env> {
    env: E,
    api: Api<E>,
    clients: Shared,
    recordings: Recordings,
    prng: Prng,
    pause_max: Duration,
    next_id: i64,
    is_slow: Rc<Cell<bool>>,
}

impl<E: Env> Asks<E> {
    fn create(&mut self) -> pb::WatchCreateRequest {
        let state = &self.api.published().root().state;
        let prng = &mut self.prng;
        let (key, range_end) = self.clients.borrow().workload.any_range(prng, 12);
        let revision = state.revision.max(1).unsigned_abs();
        let start_revision = match prng.below(5) {
            0 | 1 => 0,
            // Where something is most likely to go wrong: just around what is compacted, and what is new.
            2 => (state.compacted + prng.below(4) as i64 - 1).max(1),
            3 => (state.revision + prng.below(8) as i64 - 3).max(1),
            _ => 1 + prng.below(revision) as i64,
        };
        let watch = Watch {
            key,
            range_end,
            start_revision,
            no_put: prng.chance(1, 8),
            no_delete: prng.chance(1, 8),
            prev_kv: prng.chance(1, 2),
        };
        let watch_id = self.next_id;
        self.next_id += 1;
        let filters = [(watch.no_put, 0), (watch.no_delete, 1)];
        let request = pb::WatchCreateRequest {
            key: watch.key.clone().into(),
            range_end: watch.range_end.clone().into(),
            start_revision,
            progress_notify: prng.chance(1, 3),
            filters: filters.into_iter().filter(|(is_on, _)| *is_on).map(|(_, filter)| filter).collect(),
            prev_kv: watch.prev_kv,
            watch_id,
            fragment: prng.chance(1, 3),
        };
        let known = Circumstances {
            compacted_before: state.compacted,
            compacted_after: state.compacted,
            cancel_was_asked: false,
            all_until: 0,
        };
        let recording = Recording { watch, replies: Vec::new(), known, free_since: self.clients.borrow().clock.now() };
        self.recordings.borrow_mut().insert(watch_id, recording);
        request
    }

    fn cancel(&mut self) -> pb::WatchCancelRequest {
        let watch_id = 1 + self.prng.below(self.next_id.unsigned_abs()) as i64;
        if let Some(recording) = self.recordings.borrow_mut().get_mut(&watch_id) {
            recording.known.cancel_was_asked = true;
        }
        pb::WatchCancelRequest { watch_id }
    }
}

impl<E: Env> Requests for Asks<E> {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let pause_us = self.prng.below(4 * u64::try_from(self.pause_max.as_micros()).unwrap_or(u64::MAX).max(1));
        self.env.sleep(Duration::from_micros(pause_us)).await;
        if self.clients.borrow().is_over {
            return None;
        }
        if self.prng.chance(1, 6) {
            self.is_slow.set(!self.is_slow.get());
        }
        let request = match self.prng.below(8) {
            0 => RequestUnion::CancelRequest(self.cancel()),
            1..=3 => RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
            _ => RequestUnion::CreateRequest(self.create()),
        };
        Some(Ok(pb::WatchRequest { request_union: Some(request) }.encode_to_vec().into()))
    }
}

/// What the client of a stream is sent.
struct Hears<E: Env> {
    env: E,
    api: Api<E>,
    clients: Shared,
    recordings: Recordings,
    is_slow: Rc<Cell<bool>>,
}

impl<E: Env> Hears<E> {
    fn note(&self, response: &pb::WatchResponse) {
        let (now, compacted) = (self.clients.borrow().clock.now(), self.api.published().root().state.compacted);
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if let Some(last) = response.events.last().and_then(|event| event.kv.as_ref()) {
            // Whoever is told of it may count on it.
            self.clients.borrow_mut().history.see(last.mod_revision);
        }
        if response.created && response.watch_id == -1 {
            // A range that is empty: there is no watcher.
            return;
        }
        let mut recordings = self.recordings.borrow_mut();
        let mine = |id: i64| response.watch_id == id || response.watch_id == -1;
        for (_, recording) in recordings.iter_mut().filter(|(id, _)| mine(**id)) {
            let has_ended = matches!(recording.replies.last(), Some(Reply::Canceled { .. }));
            if response.watch_id == -1 && (recording.replies.is_empty() || has_ended) {
                continue;
            }
            recording.known.compacted_after = compacted;
            if self.is_slow.get() {
                recording.free_since = now;
            }
            if has_ended && response.canceled && recording.known.cancel_was_asked {
                // One that a compaction ended can still be cancelled.
                continue;
            }
            recording.replies.push(match response {
                pb::WatchResponse { created: true, .. } => Reply::Created { revision },
                pb::WatchResponse { canceled: true, compact_revision, .. } => {
                    Reply::Canceled { compact_revision: *compact_revision }
                }
                pb::WatchResponse { events, .. } if events.is_empty() => Reply::Progress { revision },
                pb::WatchResponse { events, fragment, .. } => {
                    Reply::Events { revision, fragment: *fragment, events: events.iter().map(event).collect() }
                }
            });
        }
    }
}

impl<E: Env> Replies for Hears<E> {
    async fn send(&mut self, frame: Frame) -> Result<(), Gone> {
        while self.is_slow.get() {
            let now = self.clients.borrow().clock.now();
            self.recordings.borrow_mut().values_mut().for_each(|recording| recording.free_since = now);
            self.env.sleep(Duration::from_millis(20)).await;
        }
        self.note(&pb::WatchResponse::decode(frame.message()).expect("the node encoded it"));
        Ok(())
    }

    async fn send_chunked(&mut self, message_len: u64, _: &mut dyn ChunkSource) -> Result<(), Status> {
        unreachable!("a watch response of {message_len} bytes is one frame")
    }
}

fn event(event: &mvccpb::Event) -> Event {
    let kv = event.kv.as_ref().expect("an event has a key");
    Event {
        is_put: event.r#type == mvccpb::event::EventType::Put as i32,
        kv: wire::pair(kv),
        prev_kv: event.prev_kv.as_ref().map(wire::pair),
    }
}
