//! The watchers' side of the wire: several of them on a stream.

use std::{rc::Rc, time::Instant};

use plinth_rpc::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion};
use prost::Message;

use super::{super::engine::LongCall, board::Board};

/// Watchers on a stream.
const STREAM_WATCHERS: usize = 10;

/// The watchers of a board from `first` on.
#[derive(Debug)]
pub struct Stream {
    board: Rc<Board>,
    first: usize,
}

/// All streams of a board.
pub fn of_board(board: &Rc<Board>) -> impl Iterator<Item = Stream> {
    (0..board.count()).step_by(STREAM_WATCHERS).map(|first| Stream { board: Rc::clone(board), first })
}

impl LongCall for Stream {
    fn first(&self) -> Vec<WatchRequest> {
        let watchers = self.first..self.board.count().min(self.first + STREAM_WATCHERS);
        // From the current revision on; the server numbers the watchers of a stream from 0.
        watchers.map(|watcher| create(self.board.range(watcher))).collect()
    }

    fn message(&mut self, message: &[u8], now: Instant) -> Result<Option<WatchRequest>, String> {
        let response = WatchResponse::decode(message).map_err(|error| format!("an undecodable response: {error}"))?;
        self.board.handle(self.first, &response, now)?;
        Ok(None)
    }

    fn is_ready(&self) -> bool {
        // All together: the board counts.
        self.board.is_ready()
    }
}

/// Asks for a watch from the current revision on.
fn create((key, range_end): (Vec<u8>, Vec<u8>)) -> WatchRequest {
    let create = WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..Default::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}
