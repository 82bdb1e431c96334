//! Members introduce themselves to those that were away when they were added.
//!
//! Such a one learns of them from its leader, as soon as it has one. But perhaps only they can lead, or give a majority: so it takes them for members at once, if
//! they name its cluster and it doesn't know that they were removed. Raft is safe with that: who counts is in the configuration alone.

use std::rc::Rc;

use bytes::BytesMut;
use plinth_base::{MemberId, limits::MEMBERS_MAX};
use plinth_env::PeerAddress;
use plinth_node::peers::{FRAME_HEADER_BYTES, FrameError, FrameHeader, Purpose, decode_census, encode_census};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    lane::{Failure, greet, within},
    network::{Dial, Shared, connect_to_all},
};
use crate::conn::Runtime;

/// Longer than what anybody has to say of one member.
const BYTES_MAX: usize = 1 << 20;

/// Tells the peer where this member is found.
pub(super) async fn make<R: Runtime, D: Dial>(shared: &Shared<R, D>, peer: MemberId, url: &str) -> Result<(), Failure> {
    let mut own = shared.state.borrow().members.clone();
    own.retain(|address| address.id == shared.me.member);
    let mut socket = greet(shared, peer, Purpose::Introduce, url).await?;
    let mut frame = BytesMut::new();
    encode_census(&own, &mut frame);
    let told = within(&shared.runtime, shared.me.patience, async {
        socket.write_all(&frame).await?;
        // It closes the connection when it has taken note.
        socket.read(&mut [0]).await
    });
    told.await.ok_or(Failure::Silent)??;
    Ok(())
}

/// A member says where it is found.
pub(super) async fn hear<R: Runtime, D: Dial, T: AsyncRead + AsyncWrite + Unpin>(
    shared: &Rc<Shared<R, D>>,
    peer: MemberId,
    mut socket: T,
) {
    let Some(Ok(told)) = within(&shared.runtime, shared.me.patience, read(&mut socket)).await else { return };
    let Ok([guest]) = <[PeerAddress; 1]>::try_from(told) else { return };
    let is_new = {
        let mut state = shared.state.borrow_mut();
        let is_new = guest.id == peer
            && guest.id != shared.me.member
            && !state.peers.contains_key(&peer)
            && !state.removed.contains(&peer)
            && state.guests.len() < MEMBERS_MAX;
        if is_new {
            plinth_base::log_info!(
                "a member was added while this one was away",
                "peer" => format!("{:x}", peer.0).as_str(),
                "urls" => guest.urls.join(",").as_str()
            );
            state.guests.push(guest);
        }
        is_new
    };
    if is_new {
        connect_to_all(shared);
    }
}

async fn read<T: AsyncRead + Unpin>(socket: &mut T) -> Result<Vec<PeerAddress>, FrameError> {
    const BROKEN: FrameError = FrameError::Malformed("a connection that ended early");
    let mut head = [0; FRAME_HEADER_BYTES];
    socket.read_exact(&mut head).await.map_err(|_| BROKEN)?;
    let header = FrameHeader::read(&head)?;
    if header.payload_bytes() > BYTES_MAX {
        return Err(FrameError::Malformed("more than there is to say of one member"));
    }
    let mut payload = vec![0; header.payload_bytes()];
    socket.read_exact(&mut payload).await.map_err(|_| BROKEN)?;
    decode_census(&header, &payload.into())
}
