//! One streaming call.

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::HeaderMap;

use crate::{
    call::{GRPC_PREFIX_BYTES, frame},
    status::{Code, Status, status_of},
};

/// A call with any number of messages both ways. Dropping it resets the call.
#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    receive: Receive,
    unread: BytesMut,
}

#[derive(Debug)]
enum Receive {
    Head(ResponseFuture),
    Body(RecvStream),
}

impl Stream {
    pub(crate) fn new(send: SendStream<Bytes>, response: ResponseFuture) -> Self {
        Self { send, receive: Receive::Head(response), unread: BytesMut::new() }
    }

    /// Sends `message`, well formed or not, behind a right prefix.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        Ok(self.send.send_data(frame(message), false)?)
    }

    /// Says that nothing more is sent.
    pub fn close(&mut self) -> Result<(), Status> {
        Ok(self.send.send_data(Bytes::new(), true)?)
    }

    /// The next message; the end of the call is a status, of code OK if all went well. A future that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Bytes, Status> {
        if let Receive::Head(response) = &mut self.receive {
            let (head, body) = response.await?.into_parts();
            if let Some(end) = status_of(&head.headers) {
                return Err(ended(end));
            }
            self.receive = Receive::Body(body);
        }
        let Receive::Body(body) = &mut self.receive else { unreachable!("made above") };
        loop {
            if let Some(message) = take_message(&mut self.unread)? {
                return Ok(message);
            }
            let Some(chunk) = body.data().await else {
                let trailers = body.trailers().await?.unwrap_or_else(HeaderMap::new);
                let without = Err(Status::new(Code::UNKNOWN, "the answer ends without a grpc-status"));
                return Err(ended(status_of(&trailers).unwrap_or(without)));
            };
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            self.unread.extend_from_slice(&chunk);
        }
    }
}

fn ended(end: Result<(), Status>) -> Status {
    end.err().unwrap_or_else(|| Status::new(Code::OK, ""))
}

fn take_message(unread: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some(prefix) = unread.first_chunk::<GRPC_PREFIX_BYTES>() else { return Ok(None) };
    let [compressed, a, b, c, d] = *prefix;
    if compressed != 0 {
        return Err(Status::new(Code::INTERNAL, "the answer is compressed"));
    }
    let message_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    if unread.len() < GRPC_PREFIX_BYTES + message_bytes {
        return Ok(None);
    }
    unread.advance(GRPC_PREFIX_BYTES);
    Ok(Some(unread.split_to(message_bytes).freeze()))
}
