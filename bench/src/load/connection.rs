//! One connection and the calls on it.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Request, Response};
use plinth_client::{Code, frame};
use prost::Message;
use tokio::{
    net::TcpStream,
    task::{JoinHandle, spawn_local},
};

use super::{
    keys::Keys,
    request::{Requests, head},
    tally::Tally,
};
use crate::failure::Failure;

/// Flow control windows: wide, so that the server never waits for us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// gRPC's code of an answer that is none.
const UNKNOWN: u32 = 2;

/// An open connection, which lives on the runtime.
pub struct Connection {
    /// To be cloned for each stream.
    pub send: SendRequest<Bytes>,
    /// Ends when the connection does, and says why.
    pub end: JoinHandle<String>,
}

/// Opens a connection.
pub async fn connect(endpoint: SocketAddr) -> Result<Connection, String> {
    let refused = |error: &dyn std::fmt::Display| format!("cannot connect to {endpoint}: {error}");
    let stream = TcpStream::connect(endpoint).await.map_err(|error| refused(&error))?;
    stream.set_nodelay(true).map_err(|error| refused(&error))?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .enable_push(false)
        .handshake(stream)
        .await
        .map_err(|error| refused(&error))?;
    let end = spawn_local(async move {
        match connection.await {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => error.to_string(),
        }
    });
    Ok(Connection { send, end })
}

/// One call after the other until there are no more keys or the connection is gone.
pub async fn stream(mut send: SendRequest<Bytes>, requests: Rc<Requests>, tally: Rc<Tally>, mut keys: impl Keys) {
    while let Some(key) = keys.next().await {
        let began = Instant::now();
        match call(&mut send, &requests, key).await {
            Ok(Answer { status: Status::Ok, bytes }) => {
                tally.succeeded(began, bytes);
                keys.succeeded(key);
            }
            Ok(Answer { status: Status::Error(code, message), .. }) => tally.failed(code, &message),
            Err(error) if error.is_reset() => tally.failed(UNKNOWN, &error.to_string()),
            // The connection's own task says why.
            Err(_) => return,
        }
    }
}

/// How a call ended.
pub enum Status {
    /// Well.
    Ok,
    /// With this code and message.
    Error(u32, String),
}

/// What came of a call.
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// Length of its messages, their prefixes included.
    pub bytes: u64,
}

/// One call.
pub async fn call(send: &mut SendRequest<Bytes>, requests: &Requests, key: u64) -> Result<Answer, h2::Error> {
    exchange(send, requests.head(), requests.body(key)).await
}

/// One call on a connection of its own, read as fast as it comes and thrown away; gives the length of the answer.
pub async fn call_once(endpoint: SocketAddr, path: &str, message: &impl Message) -> Result<u64, Failure> {
    let failed = |what: &dyn std::fmt::Display| Failure::Trouble(format!("{path} at {endpoint}: {what}"));
    let mut connection = connect(endpoint).await.map_err(Failure::Trouble)?;
    let head = head(&endpoint.to_string(), path);
    let answer = exchange(&mut connection.send, head, frame(&message.encode_to_vec())).await;
    match answer.map_err(|error| failed(&error))? {
        Answer { status: Status::Ok, bytes } => Ok(bytes),
        Answer { status: Status::Error(code, message), .. } => Err(failed(&format!("{:?} {message:?}", Code(code)))),
    }
}

async fn exchange(send: &mut SendRequest<Bytes>, head: Request<()>, body: Bytes) -> Result<Answer, h2::Error> {
    std::future::poll_fn(|cx| send.poll_ready(cx)).await?;
    let (response, mut stream) = send.send_request(head, false)?;
    stream.send_data(body, true)?;
    read_answer(response.await?).await
}

async fn read_answer(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut read = 0;
    while let Some(chunk) = body.data().await {
        let bytes = chunk?.len();
        read += bytes as u64;
        body.flow_control().release_capacity(bytes)?;
    }
    let trailers = body.trailers().await?;
    let found = trailers.as_ref().and_then(status_of).or_else(|| status_of(&head.headers));
    let missing = || Status::Error(UNKNOWN, format!("HTTP status {} without a grpc-status", head.status.as_u16()));
    Ok(Answer { status: found.unwrap_or_else(missing), bytes: read })
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    let code = headers.get("grpc-status")?;
    if code == "0" {
        return Some(Status::Ok);
    }
    let message = headers.get("grpc-message").map_or_else(String::new, |value| {
        // Percent-encoded as it came: etcd's texts are readable so.
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    });
    Some(Status::Error(code.to_str().ok()?.parse().ok()?, message))
}
