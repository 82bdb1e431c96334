//! Connections that peers make: what comes on them is for this member.

use std::{future::poll_fn, io, rc::Rc, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use plinth_base::MemberId;
use plinth_env::{PeerEvent, PeerLane};
use plinth_node::peers::{
    FRAME_HEADER_BYTES, FrameError, FrameHeader, HANDSHAKE_BYTES, Hello, Ping, Purpose, Refused, Welcome, encode_census,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    introduction,
    lane::within,
    network::{Dial, INBOX_BYTES_MAX, Shared},
};
use crate::conn::Runtime;

/// Frames up to this length are copied out of the buffer that they were read into: whoever keeps one, or an entry in it, would keep all of the buffer.
const COPIED_BYTES_MAX: usize = 16 << 10;

/// Bytes that one read asks for.
const READ_BYTES: usize = 64 << 10;

pub(super) async fn serve<R: Runtime, D: Dial, T: AsyncRead + AsyncWrite + Unpin>(
    shared: &Rc<Shared<R, D>>,
    mut socket: T,
) {
    let greeted = within(&shared.runtime, shared.me.patience, greet(shared, &mut socket)).await;
    let Some(Ok(hello)) = greeted else { return };
    let peer = hello.from;
    let lane = match hello.purpose {
        Purpose::Carry(lane) => lane,
        Purpose::Census => {
            let mut census = BytesMut::new();
            encode_census(&shared.state.borrow().members, &mut census);
            // Whoever doesn't take it asks again.
            let _ = within(&shared.runtime, shared.me.patience, socket.write_all(&census)).await;
            return;
        }
        Purpose::Introduce => return introduction::hear(shared, peer, socket).await,
    };
    let number = {
        let mut state = shared.state.borrow_mut();
        let Some(own) = state.lane(peer, lane) else { return };
        own.incoming += 1;
        let number = own.incoming;
        state.kick(peer);
        number
    };
    let end = receive(shared, peer, lane, number, socket).await;
    if let Err(error) = end
        && error.kind() == io::ErrorKind::InvalidData
    {
        if let Some(counts) = shared.state.borrow().counts(peer) {
            counts.received_failures.inc();
        }
        plinth_base::log_warn!(
            "a peer sent what is no frame: its connection is closed",
            "peer" => format!("{:x}", peer.0).as_str(),
            "reason" => plinth_base::log::Value::display(&error)
        );
    }
    let mut state = shared.state.borrow_mut();
    if state.lane(peer, lane).is_some_and(|own| own.incoming == number && own.is_up) {
        // Answers to what was sent may be among what is lost.
        state.push(PeerEvent::Connected { peer, lane });
    }
}

/// Answers the hello; who calls, if it is welcome.
async fn greet<R, D, T: AsyncRead + AsyncWrite + Unpin>(shared: &Shared<R, D>, socket: &mut T) -> io::Result<Hello> {
    let mut bytes = [0; HANDSHAKE_BYTES];
    socket.read_exact(&mut bytes).await?;
    let me = shared.me;
    let hello = Hello::decode(&bytes);
    let refused = match &hello {
        Err(refused) => Some(*refused),
        Ok(Hello { purpose: Purpose::Census, .. }) => None,
        Ok(hello) if hello.cluster != me.cluster => Some(Refused::OtherCluster(me.cluster)),
        Ok(hello) if hello.to != me.member => Some(Refused::OtherMember(me.member)),
        Ok(hello) => {
            let state = shared.state.borrow();
            if state.removed.contains(&hello.from) {
                Some(Refused::Removed)
            } else if hello.purpose == Purpose::Introduce || state.peers.contains_key(&hello.from) {
                None
            } else {
                Some(Refused::UnknownMember)
            }
        }
    };
    let to = hello.as_ref().map_or(MemberId(0), |hello| hello.from);
    let welcome = Welcome {
        refused,
        cluster: me.cluster,
        from: me.member,
        to,
        incarnation: me.incarnation,
        page_format: me.page_format,
    };
    socket.write_all(&welcome.encode()).await?;
    match (refused, hello) {
        (None, Ok(hello)) => Ok(hello),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Hands frames on until the connection ends, or a later one of that lane has taken over.
async fn receive<R: Runtime, D, T: AsyncRead + Unpin>(
    shared: &Shared<R, D>,
    peer: MemberId,
    lane: PeerLane,
    number: u64,
    mut socket: T,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        while let Some(length) = whole_frame(&buffer)? {
            room(shared, lane).await;
            let mut state = shared.state.borrow_mut();
            if state.lane(peer, lane).is_none_or(|own| own.incoming != number) {
                return Ok(());
            }
            let frame = if length <= COPIED_BYTES_MAX {
                let frame = Bytes::copy_from_slice(&buffer[..length]);
                buffer.advance(length);
                frame
            } else {
                buffer.split_to(length).freeze()
            };
            if let Some(counts) = state.counts(peer) {
                counts.received_bytes.add(length as u64);
            }
            let ping = if lane == PeerLane::Pulse { Ping::decode(&frame).map_err(invalid)? } else { None };
            match ping {
                None => state.push(PeerEvent::Received { peer, lane, frame }),
                Some(Ping::Ping(asked)) => state.ping(peer, Ping::Pong(asked)),
                Some(Ping::Pong(asked)) => {
                    let took = shared.runtime.now().since(asked);
                    if let Some(counts) = state.counts(peer) {
                        counts.round_trip.observe_duration(took);
                    }
                }
            }
        }
        buffer.reserve(READ_BYTES.max(wanted(&buffer)));
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The length of the first frame, if all of it is there.
fn whole_frame(buffer: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = buffer.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let header = FrameHeader::read(head).map_err(invalid)?;
    let length = FRAME_HEADER_BYTES + header.payload_bytes();
    Ok((buffer.len() >= length).then_some(length))
}

/// What is missing of the first frame, as far as its length is known.
fn wanted(buffer: &[u8]) -> usize {
    let header = buffer.first_chunk::<FRAME_HEADER_BYTES>().and_then(|head| FrameHeader::read(head).ok());
    header.map_or(0, |header| (FRAME_HEADER_BYTES + header.payload_bytes()).saturating_sub(buffer.len()))
}

/// Waits while too much has come that nobody took; pulses never wait.
async fn room<R, D>(shared: &Shared<R, D>, lane: PeerLane) {
    poll_fn(|cx| {
        let mut state = shared.state.borrow_mut();
        if lane == PeerLane::Pulse || state.inbox_bytes < INBOX_BYTES_MAX {
            return Poll::Ready(());
        }
        state.await_room(cx.waker());
        Poll::Pending
    })
    .await;
}
