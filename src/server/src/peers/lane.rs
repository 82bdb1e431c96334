//! One lane to one peer: connect, say hello, send what is there, and begin again when it breaks.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use plinth_base::{Instant, MemberId};
use plinth_env::{PeerEvent, PeerLane};
use plinth_node::peers::{HANDSHAKE_BYTES, Hello, Ping, Purpose, Refused, Welcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    counts::PeerCounts,
    introduction,
    network::{Dial, Shared},
};
use crate::conn::Runtime;

/// Between two attempts to connect: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Between two measurements of the round trip.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Frames that are shorter go together in one write, up to so many bytes.
const GATHERED_BYTES: usize = 64 << 10;

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    Socket(String),
    Refused(Refused),
    Silent,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(error) => f.write_str(error),
            Self::Refused(refused) => refused.fmt(f),
            Self::Silent => f.write_str("no answer"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}

/// Keeps the lane as long as the peer is wanted at these URLs.
pub(super) async fn keep<R: Runtime, D: Dial>(
    shared: Rc<Shared<R, D>>,
    peer: MemberId,
    lane: PeerLane,
    epoch: u64,
    urls: Vec<String>,
) {
    let is_wanted = || shared.state.borrow().is_wanted(peer, epoch);
    let mut pause = PAUSE_MIN;
    let mut told = None;
    while is_wanted() {
        for url in &urls {
            match connect(&shared, peer, lane, url).await {
                Ok(socket) if is_wanted() => {
                    (pause, told) = (PAUSE_MIN, None);
                    carry(&shared, peer, lane, epoch, socket).await;
                }
                Ok(_) => return,
                Err(failure) => {
                    if let Some(counts) = shared.state.borrow().counts(peer) {
                        counts.sent_failures.inc();
                    }
                    if matches!(failure, Failure::Refused(Refused::Removed)) {
                        shared.state.borrow_mut().push(PeerEvent::Expelled { by: peer });
                    }
                    // Once for each reason, on the lane that matters most.
                    if lane == PeerLane::Pulse && told.as_ref() != Some(&failure) {
                        plinth_base::log_warn!(
                            "a member can't be reached",
                            "peer" => format!("{:x}", peer.0).as_str(),
                            "url" => url.as_str(),
                            "reason" => plinth_base::log::Value::display(&failure)
                        );
                        told = Some(failure);
                    }
                }
            }
        }
        if is_wanted() {
            rest(&shared, peer, lane, pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Waits before the next attempt, until the peer calls at the longest.
async fn rest<R: Runtime, D: Dial>(shared: &Shared<R, D>, peer: MemberId, lane: PeerLane, pause: Duration) {
    let kicked = poll_fn(|cx| {
        let mut state = shared.state.borrow_mut();
        let Some(own) = state.lane(peer, lane) else { return Poll::Ready(()) };
        if std::mem::take(&mut own.is_kicked) {
            return Poll::Ready(());
        }
        own.dialer = Some(cx.waker().clone());
        Poll::Pending
    });
    within(&shared.runtime, pause, kicked).await;
}

async fn connect<R: Runtime, D: Dial>(
    shared: &Shared<R, D>,
    peer: MemberId,
    lane: PeerLane,
    url: &str,
) -> Result<D::Socket, Failure> {
    match greet(shared, peer, Purpose::Carry(lane), url).await {
        Err(Failure::Refused(Refused::UnknownMember)) if lane == PeerLane::Pulse => {
            introduction::make(shared, peer, url).await?;
            greet(shared, peer, Purpose::Carry(lane), url).await
        }
        done => done,
    }
}

/// A connection to the peer, which has agreed to what it is for.
pub(super) async fn greet<R: Runtime, D: Dial>(
    shared: &Shared<R, D>,
    peer: MemberId,
    purpose: Purpose,
    url: &str,
) -> Result<D::Socket, Failure> {
    let me = shared.me;
    let dialed = within(&shared.runtime, me.patience, async {
        let mut socket = shared.dial.dial(url.to_owned()).await?;
        let hello = Hello {
            purpose,
            cluster: me.cluster,
            from: me.member,
            to: peer,
            incarnation: me.incarnation,
            page_format: me.page_format,
        };
        socket.write_all(&hello.encode()).await?;
        let mut answer = [0; HANDSHAKE_BYTES];
        socket.read_exact(&mut answer).await?;
        Ok::<_, io::Error>((socket, answer))
    });
    let (socket, answer) = dialed.await.ok_or(Failure::Silent)??;
    let welcome = Welcome::decode(&answer).map_err(Failure::Refused)?;
    match welcome.refused {
        Some(refused) => Err(Failure::Refused(refused)),
        None if welcome.cluster != me.cluster => Err(Failure::Refused(Refused::OtherCluster(welcome.cluster))),
        None if welcome.from != peer => Err(Failure::Refused(Refused::OtherMember(welcome.from))),
        None => Ok(socket),
    }
}

/// Sends until the connection breaks or isn't wanted any more.
async fn carry<R: Runtime, D: Dial>(
    shared: &Shared<R, D>,
    peer: MemberId,
    lane: PeerLane,
    epoch: u64,
    socket: D::Socket,
) {
    let counts = {
        let mut state = shared.state.borrow_mut();
        let Some(own) = state.peers.get_mut(&peer) else { return };
        let counts = Arc::clone(&own.counts);
        let own = &mut own.lanes[lane as usize];
        own.empty();
        (own.is_up, own.must_end, own.is_kicked) = (true, false, false);
        state.push(PeerEvent::Connected { peer, lane });
        counts
    };
    let is_pulse = lane == PeerLane::Pulse;
    counts.is_active.add(i64::from(is_pulse));
    let mut sender = Sender { socket, buffer: BytesMut::new(), dues: Vec::new(), large: Bytes::new() };
    let mut pings = pin!(ask_for_pings(shared, peer, is_pulse));
    poll_fn(|cx| {
        // It never ends.
        let _ = pings.as_mut().poll(cx);
        sender.poll(shared, peer, lane, epoch, &counts, cx)
    })
    .await;
    counts.is_active.add(-i64::from(is_pulse));
    counts.disconnected.add(u64::from(is_pulse));
    let mut state = shared.state.borrow_mut();
    if !state.is_wanted(peer, epoch) {
        return;
    }
    if let Some(own) = state.lane(peer, lane) {
        own.is_up = false;
        own.empty();
    }
    state.push(PeerEvent::Broken { peer, lane });
}

/// Measures now and then how long it takes to the peer and back.
async fn ask_for_pings<R: Runtime, D: Dial>(shared: &Shared<R, D>, peer: MemberId, is_pulse: bool) {
    if !is_pulse {
        return std::future::pending().await;
    }
    loop {
        shared.state.borrow_mut().ping(peer, Ping::Ping(shared.runtime.now()));
        shared.runtime.sleep(PING_INTERVAL).await;
    }
}

/// The writing end of a connection. Nothing comes on it; that it can be read says that it is over.
struct Sender<T> {
    socket: T,
    /// Small frames, together.
    buffer: BytesMut,
    /// When those of them that had their time were due.
    dues: Vec<Instant>,
    /// A frame that goes alone, behind them.
    large: Bytes,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Sender<T> {
    fn poll<R: Runtime, D>(
        &mut self,
        shared: &Shared<R, D>,
        peer: MemberId,
        lane: PeerLane,
        epoch: u64,
        counts: &PeerCounts,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut byte = [0; 1];
        if Pin::new(&mut self.socket).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready() {
            return Poll::Ready(());
        }
        loop {
            {
                let mut state = shared.state.borrow_mut();
                if !state.is_wanted(peer, epoch) {
                    return Poll::Ready(());
                }
                let Some(lane) = state.lane(peer, lane) else { return Poll::Ready(()) };
                if lane.must_end {
                    return Poll::Ready(());
                }
                while self.large.is_empty() && self.buffer.len() < GATHERED_BYTES {
                    match lane.take() {
                        Some((frame, due)) if frame.len() < GATHERED_BYTES => {
                            self.buffer.extend_from_slice(&frame);
                            self.dues.extend(due);
                        }
                        Some((frame, _)) => self.large = frame,
                        None => break,
                    }
                }
                if self.buffer.is_empty() && self.large.is_empty() {
                    lane.writer = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let next = if self.buffer.is_empty() { &self.large[..] } else { &self.buffer[..] };
            match Pin::new(&mut self.socket).poll_write(cx, next) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) if written > 0 => {
                    counts.sent_bytes.add(written as u64);
                    if self.buffer.is_empty() {
                        self.large.advance(written);
                        if self.large.is_empty() {
                            // Whoever made it may use its memory again.
                            self.large = Bytes::new();
                        }
                    } else {
                        self.buffer.advance(written);
                        if self.buffer.is_empty() {
                            self.note_written(shared, counts);
                        }
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<T> Sender<T> {
    /// What was due is on its way.
    fn note_written<R: Runtime, D>(&mut self, shared: &Shared<R, D>, counts: &PeerCounts) {
        if self.dues.is_empty() {
            return;
        }
        let now = shared.runtime.now();
        for due in self.dues.drain(..) {
            let late = now.since(due);
            counts.heartbeat_lateness.observe_duration(late);
            counts.late_heartbeats.add(u64::from(late > shared.me.heartbeat_interval));
        }
    }
}

/// What `work` gives, unless it takes longer than `limit`.
pub(super) async fn within<R: Runtime, T>(runtime: &R, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut sleep = pin!(runtime.sleep(limit));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
