//! What all connections share: who is wanted, what waits to be sent, and what has come.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use plinth_base::{Instant, MemberId};
use plinth_env::{NotSent, PeerAddress, PeerEvent, PeerLane, Peers, Resident};
use plinth_node::peers::Ping;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    accept, census,
    counts::{AllCounts, PeerCounts},
    lane,
};
use crate::conn::Runtime;

/// How connections are made.
pub trait Dial: Clone + 'static {
    /// A connection.
    type Socket: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Connects to a peer URL.
    fn dial(&self, url: String) -> impl Future<Output = io::Result<Self::Socket>>;
}

/// This member, as it presents itself.
#[derive(Clone, Copy, Debug)]
pub struct Me {
    /// Its cluster.
    pub cluster: u64,
    /// Its id.
    pub member: MemberId,
    /// Drawn when its process started.
    pub incarnation: u64,
    /// The version of tree pages that it can read.
    pub page_format: u16,
    /// A silent handshake is given up after this.
    pub patience: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
}

/// Bytes that may wait on a lane; more are refused, but a single frame always goes.
const OUTBOX_BYTES_MAX: [usize; PeerLane::ALL.len()] = [1 << 20, 8 << 20, 4 << 20];

/// Bytes that came and that nobody has taken yet; above it connections other than pulses aren't read.
pub(super) const INBOX_BYTES_MAX: usize = 32 << 20;

/// Connections to and from all peers of one member. Clones are the same.
pub struct Network<R, D>(pub(super) Rc<Shared<R, D>>);

impl<R, D> Clone for Network<R, D> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

pub(super) struct Shared<R, D> {
    pub(super) me: Me,
    pub(super) counts: AllCounts,
    pub(super) runtime: R,
    pub(super) dial: D,
    pub(super) state: RefCell<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// All members, this one too.
    pub(super) members: Vec<PeerAddress>,
    pub(super) peers: BTreeMap<MemberId, PeerState>,
    pub(super) removed: Vec<MemberId>,
    /// Members of which this one knows only because they said so: it has yet to learn that they were added.
    pub(super) guests: Vec<PeerAddress>,
    /// Who waits until there are peers.
    first_peer: Option<Waker>,
    events: VecDeque<PeerEvent>,
    pub(super) inbox_bytes: usize,
    waker: Option<Waker>,
    /// Readers that wait until something was taken.
    readers: Vec<Waker>,
    /// Goes up with every change of who is wanted where: tasks of an earlier one end.
    epochs: u64,
}

pub(super) struct PeerState {
    pub(super) urls: Vec<String>,
    pub(super) counts: Arc<PeerCounts>,
    pub(super) epoch: u64,
    pub(super) lanes: [LaneState; PeerLane::ALL.len()],
}

/// One lane of a peer.
#[derive(Default)]
pub(super) struct LaneState {
    /// It can be sent on.
    pub(super) is_up: bool,
    /// Frames, some with the time at which they were due.
    pub(super) outbox: VecDeque<(Bytes, Option<Instant>)>,
    outbox_bytes: usize,
    pub(super) writer: Option<Waker>,
    /// The peer is there: whoever waits before the next attempt to connect waits no longer.
    pub(super) is_kicked: bool,
    pub(super) dialer: Option<Waker>,
    /// The connection has to end.
    pub(super) must_end: bool,
    /// Of the connection on which frames come; one that was made later takes over.
    pub(super) incoming: u64,
}

impl LaneState {
    /// To be sent behind what is there, if there is room for it.
    pub(super) fn put(&mut self, frame: Bytes, due: Option<Instant>, bytes_max: usize) -> Result<(), NotSent> {
        if !self.is_up {
            return Err(NotSent::NotConnected);
        }
        if self.outbox_bytes > 0 && self.outbox_bytes + frame.len() > bytes_max {
            return Err(NotSent::Full);
        }
        self.outbox_bytes += frame.len();
        self.outbox.push_back((frame, due));
        self.writer.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// What is to be written next.
    pub(super) fn take(&mut self) -> Option<(Bytes, Option<Instant>)> {
        let (frame, due) = self.outbox.pop_front()?;
        self.outbox_bytes -= frame.len();
        Some((frame, due))
    }

    pub(super) fn empty(&mut self) {
        self.outbox.clear();
        self.outbox_bytes = 0;
    }
}

impl State {
    pub(super) fn push(&mut self, event: PeerEvent) {
        if let PeerEvent::Received { frame, .. } = &event {
            self.inbox_bytes += frame.len();
        }
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn lane(&mut self, peer: MemberId, lane: PeerLane) -> Option<&mut LaneState> {
        self.peers.get_mut(&peer).map(|peer| &mut peer.lanes[lane as usize])
    }

    /// The peer has called: it can be called, too.
    pub(super) fn kick(&mut self, peer: MemberId) {
        for lane in self.peers.get_mut(&peer).into_iter().flat_map(|peer| &mut peer.lanes) {
            lane.is_kicked = true;
            lane.dialer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the task that was started for `epoch` is still wanted.
    pub(super) fn is_wanted(&self, peer: MemberId, epoch: u64) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.epoch == epoch)
    }

    fn send(&mut self, to: MemberId, lane: PeerLane, frame: Bytes, due: Option<Instant>) -> Result<(), NotSent> {
        let Some(peer) = self.peers.get_mut(&to) else { return Err(NotSent::NotConnected) };
        let sent = peer.lanes[lane as usize].put(frame, due, OUTBOX_BYTES_MAX[lane as usize]);
        if sent == Err(NotSent::Full) {
            peer.counts.sent_failures.inc();
        }
        sent
    }

    /// Asks a peer something, or answers it, of which nothing depends.
    pub(super) fn ping(&mut self, peer: MemberId, ping: Ping) {
        if let Some(pulse) = self.lane(peer, PeerLane::Pulse) {
            let _ = pulse.put(ping.encode(), None, OUTBOX_BYTES_MAX[PeerLane::Pulse as usize]);
        }
    }

    /// What is counted of a peer.
    pub(super) fn counts(&self, peer: MemberId) -> Option<&PeerCounts> {
        self.peers.get(&peer).map(|peer| &*peer.counts)
    }

    /// Wakes the reader when there is room again.
    pub(super) fn await_room(&mut self, reader: &Waker) {
        self.readers.push(reader.clone());
    }
}

impl<R: Runtime, D: Dial> Network<R, D> {
    /// Without peers yet.
    pub fn new(me: Me, counts: AllCounts, runtime: R, dial: D) -> Self {
        Self(Rc::new(Shared { me, counts, runtime, dial, state: RefCell::default() }))
    }

    /// Waits until somebody else belongs to the cluster.
    pub async fn has_peers(&self) {
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            if !state.peers.is_empty() {
                return Poll::Ready(());
            }
            state.first_peer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Serves a connection that somebody made to this member, to its end.
    pub async fn serve<T: AsyncRead + AsyncWrite + Unpin + 'static>(&self, socket: T) {
        accept::serve(&self.0, socket).await;
    }
}

impl<R: Runtime, D: Dial> Peers for Network<R, D> {
    fn set_members(&self, members: Vec<PeerAddress>, removed: Vec<MemberId>) {
        let mut state = self.0.state.borrow_mut();
        state.guests.retain(|guest| !removed.contains(&guest.id) && members.iter().all(|member| member.id != guest.id));
        (state.members, state.removed) = (members, removed);
        drop(state);
        connect_to_all(&self.0);
    }

    fn find_resident(&self, urls: Vec<String>) -> Pin<Box<dyn Future<Output = Option<Resident>>>> {
        let shared = Rc::clone(&self.0);
        Box::pin(async move {
            for url in urls {
                if let Some(resident) = census::resident(&shared, url).await {
                    return Some(resident);
                }
            }
            None
        })
    }

    fn send(&self, to: MemberId, lane: PeerLane, frame: Bytes) -> Result<(), NotSent> {
        self.0.state.borrow_mut().send(to, lane, frame, None)
    }

    fn send_due(&self, to: MemberId, lane: PeerLane, frame: Bytes, due: Instant) -> Result<(), NotSent> {
        self.0.state.borrow_mut().send(to, lane, frame, Some(due))
    }

    fn reset(&self, peer: MemberId, lane: PeerLane) {
        if let Some(lane) = self.0.state.borrow_mut().lane(peer, lane) {
            // What came made no sense: no more of that connection.
            lane.incoming += 1;
        }
    }

    fn take(&self) -> Option<PeerEvent> {
        let mut state = self.0.state.borrow_mut();
        let event = state.events.pop_front()?;
        if let PeerEvent::Received { frame, .. } = &event {
            state.inbox_bytes -= frame.len();
            if state.inbox_bytes < INBOX_BYTES_MAX {
                state.readers.drain(..).for_each(Waker::wake);
            }
        }
        Some(event)
    }

    fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state.borrow_mut();
        if state.events.is_empty() {
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

/// Keeps connections to all members and guests, and to nobody else.
pub(super) fn connect_to_all<R: Runtime, D: Dial>(shared: &Rc<Shared<R, D>>) {
    let mut state = shared.state.borrow_mut();
    let state = &mut *state;
    let mut peers: Vec<PeerAddress> = state.members.iter().chain(&state.guests).cloned().collect();
    peers.retain(|address| address.id != shared.me.member);
    if !peers.is_empty() {
        state.first_peer.take().into_iter().for_each(Waker::wake);
    }
    let is_wanted =
        |id: MemberId, urls: &[String]| peers.iter().any(|address| address.id == id && address.urls == urls);
    for (id, peer) in &mut state.peers {
        if !is_wanted(*id, &peer.urls) {
            for lane in &mut peer.lanes {
                lane.must_end = true;
                lane.writer.take().into_iter().for_each(Waker::wake);
            }
        }
    }
    let gone: Vec<(MemberId, PeerState)> = state.peers.extract_if(.., |id, peer| !is_wanted(*id, &peer.urls)).collect();
    for (id, peer) in gone {
        for lane in PeerLane::ALL.into_iter().filter(|lane| peer.lanes[*lane as usize].is_up) {
            state.push(PeerEvent::Broken { peer: id, lane });
        }
    }
    shared.counts.retain(|id| peers.iter().any(|address| address.id == id));
    for PeerAddress { id, urls, .. } in peers {
        if state.peers.contains_key(&id) {
            continue;
        }
        state.epochs += 1;
        let epoch = state.epochs;
        let counts = shared.counts.of(id);
        state.peers.insert(id, PeerState { urls: urls.clone(), counts, epoch, lanes: Default::default() });
        for lane in PeerLane::ALL {
            shared.runtime.spawn(lane::keep(Rc::clone(shared), id, lane, epoch, urls.clone()));
        }
    }
}
