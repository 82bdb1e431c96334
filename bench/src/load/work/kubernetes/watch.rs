//! A watch as the watch cache has it: a prefix, previous versions, and questions about progress.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use plinth_rpc::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use prost::Message;

use super::super::super::{engine::LongCall, watch::EventTimes};

/// Somebody waits for freshness all the time: the apiserver asks so often.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One watch.
#[derive(Debug)]
pub struct Follower {
    prefix: Vec<u8>,
    times: Rc<EventTimes>,
    is_created: bool,
    revision: i64,
    asked: Option<Instant>,
}

impl Follower {
    /// Of all keys below a prefix that ends with a slash.
    pub fn new(prefix: &str, times: &Rc<EventTimes>) -> Self {
        Self { prefix: prefix.into(), times: Rc::clone(times), is_created: false, revision: 0, asked: None }
    }
}

impl LongCall for Follower {
    fn first(&self) -> Vec<WatchRequest> {
        let mut range_end = self.prefix.clone();
        // The slash becomes a zero.
        range_end.last_mut().into_iter().for_each(|last| *last += 1);
        let create = WatchCreateRequest {
            key: self.prefix.clone().into(),
            range_end: range_end.into(),
            prev_kv: true,
            progress_notify: true,
            ..Default::default()
        };
        vec![WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }]
    }

    fn message(&mut self, message: &[u8], now: Instant) -> Result<Option<WatchRequest>, String> {
        let response = WatchResponse::decode(message).map_err(|error| format!("an undecodable response: {error}"))?;
        if response.canceled {
            return Err(format!("a watch was cancelled: {:?}", response.cancel_reason));
        }
        self.is_created |= response.created;
        for event in &response.events {
            let kv = event.kv.as_ref().ok_or("an event of nothing")?;
            // Several events may have one revision: keys of a lease that expires.
            if kv.mod_revision < self.revision {
                return Err(format!("an event of revision {} behind {}", kv.mod_revision, self.revision));
            }
            self.revision = kv.mod_revision;
            if event.r#type == 0 {
                self.times.note(&kv.value, now)?;
            }
        }
        if self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN) {
            return Ok(None);
        }
        self.asked = Some(now);
        Ok(Some(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) }))
    }

    fn is_ready(&self) -> bool {
        self.is_created
    }
}
