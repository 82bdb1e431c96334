//! The watchers' side of the wire.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, time::Instant};

use plinth_client::{Call, Client, Status};
use plinth_rpc::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion};
use prost::Message;
use tokio::task::spawn_local;

use super::board::Board;
use crate::failure::Failure;

/// All streams share so many connections.
const CONNECTIONS: usize = 8;
/// Watchers on a stream.
const STREAM_WATCHERS: usize = 10;

/// Opens connections and streams, and asks for all watchers of the board; what comes back goes there.
pub async fn open(endpoint: SocketAddr, board: &Rc<Board>) -> Result<(), Failure> {
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let client = Client::connect(endpoint).await;
        clients.push(client.map_err(|status| Failure::Trouble(format!("watching {endpoint}: {status}")))?);
    }
    for (number, first) in (0..board.count()).step_by(STREAM_WATCHERS).enumerate() {
        let (client, board) = (clients[number % CONNECTIONS].clone(), Rc::clone(board));
        spawn_local(async move {
            let Err(status) = follow(&client, &board, first).await;
            board.fail(format!("a stream of watches ended: {status}"));
        });
    }
    Ok(())
}

/// One stream, with the watchers from `first` on.
async fn follow(client: &Client, board: &Board, first: usize) -> Result<Infallible, Status> {
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", Call::raw(&[])).await?;
    for watcher in first..board.count().min(first + STREAM_WATCHERS) {
        // From the current revision on; the server numbers the watchers of a stream from 0.
        let create = WatchCreateRequest { key: board.key(watcher).into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        stream.send(&request.encode_to_vec())?;
    }
    loop {
        let message = stream.next().await?;
        match WatchResponse::decode(message) {
            Ok(response) => board.handle(first, &response, Instant::now()),
            Err(error) => board.fail(format!("an undecodable response: {error}")),
        }
    }
}
