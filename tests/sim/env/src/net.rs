//! The network between simulated machines: three lanes for each pair, as connections behave that keep their order.
//!
//! A frame arrives once, behind those sent before it, or the lane breaks and what was on its way is lost. Lanes are late and stall each on its own. A *cut*
//! carries nothing in one direction: what is sent into it waits, arrives when the cut heals, and is lost when the lane has broken meanwhile. A
//! machine that loses its power says nothing: its peers learn of it later.
//!
//! Invariant: no frame arrives twice, before an earlier one of its lane, or on a connection that was made after it was sent.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use plinth_base::{MemberId, Prng};
use plinth_env::{NotSent, PeerAddress, PeerEvent, PeerLane, Peers, Resident};

use crate::{
    exec::{HostId, World},
    options::{Chance, Latency, as_ns},
};

/// What the network is set to.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// How long a frame is on its way.
    pub latency: Latency,
    /// A frame breaks its lane, and is lost with all that is on its way there.
    pub reset: Chance,
    /// How long it takes to connect, and to try again.
    pub connect: Latency,
    /// How long a lane that carries nothing is believed in.
    pub break_after: Duration,
    /// Bytes on their way on one lane; more are refused.
    pub window_bytes: usize,
}

impl Default for NetOptions {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            latency: Latency {
                base: Duration::from_micros(50),
                jitter: Duration::from_micros(200),
                slow_chance: Chance::one_in(200),
                slow: millis(20),
            },
            reset: Chance::NEVER,
            connect: Latency { jitter: millis(40), ..Latency::fixed(millis(10)) },
            break_after: millis(2000),
            window_bytes: 8 << 20,
        }
    }
}

/// A lane between two hosts, the lower one first.
type LinkId = (HostId, HostId, PeerLane);

fn link_id(a: HostId, b: HostId, lane: PeerLane) -> LinkId {
    (a.min(b), a.max(b), lane)
}

#[derive(Default)]
struct Link {
    is_up: bool,
    /// Who runs at the lower and at the higher end.
    members: [MemberId; 2],
    /// This end is gone, and the other doesn't know: what it sends vanishes.
    gone: Option<HostId>,
    /// Goes up whenever the lane breaks: what was sent before is lost.
    generation: u64,
    /// By the sending host.
    directions: BTreeMap<HostId, Direction>,
}

#[derive(Default)]
struct Direction {
    /// When the newest frame arrives.
    last_ns: u64,
    stalled_until_ns: u64,
    under_way_bytes: usize,
    /// What has come to a cut.
    held: VecDeque<Bytes>,
}

/// One host's end.
#[derive(Default)]
struct Endpoint {
    /// Who runs there; none while nobody does.
    member: Option<MemberId>,
    peers: BTreeMap<MemberId, Option<HostId>>,
    /// Members that called although they aren't known here yet, as whoever was removed is not.
    guests: BTreeMap<MemberId, HostId>,
    /// They are told so when they call.
    removed: Vec<MemberId>,
    /// Lanes that it is about to connect.
    dials: BTreeSet<LinkId>,
    events: VecDeque<PeerEvent>,
    waker: Option<Waker>,
}

impl Endpoint {
    /// Where a member is found that this one knows, or that has introduced itself.
    fn find(&self, member: MemberId) -> Option<HostId> {
        self.peers.get(&member).copied().unwrap_or_else(|| self.guests.get(&member).copied())
    }

    fn knows(&self, member: MemberId) -> bool {
        self.peers.contains_key(&member) || self.guests.contains_key(&member)
    }

    /// Those that it keeps connections to.
    fn wanted(&self) -> BTreeSet<HostId> {
        self.peers.values().flatten().chain(self.guests.values()).copied().collect()
    }

    fn push(&mut self, event: PeerEvent) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A frame that somebody waits for.
pub(crate) struct Awaited {
    pub(crate) way: (HostId, HostId, PeerLane),
    pub(crate) is_meant: fn(&[u8]) -> bool,
    pub(crate) has_come: bool,
}

pub(crate) struct Net {
    prng: Prng,
    pub(crate) options: NetOptions,
    endpoints: Vec<Endpoint>,
    links: BTreeMap<LinkId, Link>,
    /// Directions that carry nothing, and how many cuts there were when each began.
    cuts: BTreeMap<(HostId, HostId), u64>,
    cut_count: u64,
    awaited: Option<Awaited>,
    counts: BTreeMap<&'static str, u64>,
}

/// Where a machine is found.
#[must_use]
pub fn url_of(host: usize) -> String {
    format!("http://machine-{host}:2380")
}

fn host_of(urls: &[String]) -> Option<HostId> {
    urls.iter().find_map(|url| url.strip_prefix("http://machine-")?.strip_suffix(":2380")?.parse().ok()).map(HostId)
}

impl Net {
    pub(crate) fn new(hosts: usize, prng: Prng) -> Self {
        Self {
            prng,
            options: NetOptions::default(),
            endpoints: (0..hosts).map(|_| Endpoint::default()).collect(),
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            cut_count: 0,
            awaited: None,
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// From now on a frame is waited for.
    pub(crate) fn await_frame(&mut self, awaited: Awaited) {
        self.awaited = Some(awaited);
    }

    pub(crate) fn has_awaited_come(&self) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.has_come)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn member(&self, host: HostId) -> Option<MemberId> {
        self.endpoints[host.0].member
    }

    fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.cuts.contains_key(&(a, b)) || self.cuts.contains_key(&(b, a))
    }

    /// `from` looks for who runs on `to`, and whoever runs there knows `from`, or lets it introduce itself.
    fn agree(&mut self, from: HostId, to: HostId) -> bool {
        let (Some(own), Some(other)) = (self.member(from), self.member(to)) else { return false };
        if self.endpoints[from.0].find(other) != Some(to) || self.endpoints[to.0].removed.contains(&own) {
            return false;
        }
        if !self.endpoints[to.0].knows(own) {
            self.count("member let in that was added meanwhile");
            self.endpoints[to.0].guests.insert(own, from);
        }
        true
    }

    /// Tells both ends that are there what became of the lane.
    fn tell(&mut self, (low, high, lane): LinkId, gone: Option<HostId>, members: [MemberId; 2], is_connected: bool) {
        for (host, peer) in [(low, members[1]), (high, members[0])] {
            if self.member(host).is_some() && gone != Some(host) {
                let connected = PeerEvent::Connected { peer, lane };
                self.endpoints[host.0].push(if is_connected { connected } else { PeerEvent::Broken { peer, lane } });
            }
        }
    }

    /// The lane breaks; both ends that are there learn of it.
    fn break_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_up) else { return };
        let (gone, members) = (link.gone.take(), link.members);
        link.is_up = false;
        link.generation += 1;
        link.directions.clear();
        self.tell(id, gone, members, false);
    }

    /// The lane is there.
    fn make_link(&mut self, id: LinkId) {
        // The end that didn't know that the other was gone learns it now.
        self.break_link(id);
        let (Some(low), Some(high)) = (self.member(id.0), self.member(id.1)) else { return };
        let link = self.links.entry(id).or_default();
        (link.is_up, link.members) = (true, [low, high]);
        self.tell(id, None, [low, high], true);
    }

    /// A frame has come to the end of its way.
    fn arrive(&mut self, id: LinkId, from: HostId, generation: u64, frame: Bytes) {
        let (low, high, lane) = id;
        let to = if from == low { high } else { low };
        let is_cut = self.cuts.contains_key(&(from, to));
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_up && link.generation == generation) else {
            return;
        };
        let direction = link.directions.entry(from).or_default();
        if is_cut || !direction.held.is_empty() {
            return direction.held.push_back(frame);
        }
        direction.under_way_bytes -= frame.len();
        if link.gone != Some(to) {
            let peer = link.members[usize::from(from != low)];
            if let Some(awaited) = self.awaited.as_mut().filter(|awaited| awaited.way == (from, to, lane)) {
                awaited.has_come |= (awaited.is_meant)(&frame);
            }
            self.endpoints[to.0].push(PeerEvent::Received { peer, lane, frame });
        }
    }

    /// What waited at a cut arrives.
    fn release(&mut self, from: HostId, to: HostId) {
        for lane in PeerLane::ALL {
            let id = link_id(from, to, lane);
            let Some(link) = self.links.get_mut(&id) else { continue };
            let generation = link.generation;
            let held = link.directions.get_mut(&from).map(|direction| std::mem::take(&mut direction.held));
            for frame in held.into_iter().flatten() {
                self.arrive(id, from, generation, frame);
            }
        }
    }
}

impl World {
    /// Somebody runs on `host` now.
    fn open_endpoint(&self, host: HostId, member: MemberId) {
        let mut net = self.net.borrow_mut();
        net.endpoints[host.0] = Endpoint { member: Some(member), ..Endpoint::default() };
    }

    /// Nobody runs on `host` any more. A process that ends has its connections closed; a machine without power says nothing.
    pub(crate) fn close_endpoint(self: &Rc<Self>, host: HostId, power_cut: bool) {
        let mut net = self.net.borrow_mut();
        let Some(_) = std::mem::take(&mut net.endpoints[host.0]).member else { return };
        let ids: Vec<LinkId> = net
            .links
            .iter()
            .filter(|((low, high, _), link)| link.is_up && (*low == host || *high == host))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let other = if id.0 == host { id.1 } else { id.0 };
            let link = net.links.get_mut(&id).expect("it was just found");
            if link.gone.is_some() {
                // Nobody is left.
                (link.is_up, link.gone) = (false, None);
                link.generation += 1;
                link.directions.clear();
                continue;
            }
            link.gone = Some(host);
            let generation = link.generation;
            let delay = if power_cut { net.options.break_after } else { Duration::from_micros(100) };
            self.schedule(other, as_ns(delay), Box::new(move |world| world.find_half_link(id, generation)));
        }
    }

    fn find_half_link(self: &Rc<Self>, id: LinkId, generation: u64) {
        let mut net = self.net.borrow_mut();
        if net.links.get(&id).is_some_and(|link| link.is_up && link.gone.is_some() && link.generation == generation) {
            net.break_link(id);
            drop(net);
            self.dial_again(id);
        }
    }

    /// Both ends that want the lane try to make it.
    fn dial_again(self: &Rc<Self>, id: LinkId) {
        self.dial(id.0, id);
        self.dial(id.1, id);
    }

    fn dial(self: &Rc<Self>, host: HostId, id: LinkId) {
        let mut net = self.net.borrow_mut();
        let other = if id.0 == host { id.1 } else { id.0 };
        let endpoint = &mut net.endpoints[host.0];
        let wants = endpoint.member.is_some() && endpoint.wanted().contains(&other);
        if !wants || !endpoint.dials.insert(id) {
            return;
        }
        let Net { prng, options, .. } = &mut *net;
        let delay_ns = options.connect.draw_ns(prng);
        self.schedule(host, delay_ns, Box::new(move |world| world.connect(host, other, id)));
    }

    fn connect(self: &Rc<Self>, host: HostId, other: HostId, id: LinkId) {
        let mut net = self.net.borrow_mut();
        net.endpoints[host.0].dials.remove(&id);
        if net.links.get(&id).is_some_and(|link| link.is_up && link.gone.is_none()) {
            return;
        }
        if !net.is_cut(host, other) && net.agree(host, other) {
            net.make_link(id);
            return;
        }
        if let (Some(own), Some(by)) = (net.member(host), net.member(other))
            && net.endpoints[other.0].removed.contains(&own)
            && !net.is_cut(host, other)
        {
            return net.endpoints[host.0].push(PeerEvent::Expelled { by });
        }
        drop(net);
        self.dial(host, id);
    }

    fn set_peers(self: &Rc<Self>, host: HostId, peers: Vec<PeerAddress>, removed: Vec<MemberId>) {
        let mut net = self.net.borrow_mut();
        let hosts = net.endpoints.len();
        let found = |address: PeerAddress| {
            let at = host_of(&address.urls).filter(|at| at.0 < hosts && *at != host);
            (address.id, at)
        };
        let own = net.member(host);
        let others = peers.into_iter().filter(|address| Some(address.id) != own);
        let endpoint = &mut net.endpoints[host.0];
        endpoint.peers = others.map(found).collect();
        endpoint.guests.retain(|guest, _| !endpoint.peers.contains_key(guest) && !removed.contains(guest));
        endpoint.removed = removed;
        let wanted = endpoint.wanted();
        let all: Vec<LinkId> =
            net.links.keys().filter(|(low, high, _)| *low == host || *high == host).copied().collect();
        for id in all {
            let other = if id.0 == host { id.1 } else { id.0 };
            let is_wanted = net.member(other).is_none_or(|member| net.endpoints[host.0].knows(member));
            if !is_wanted {
                net.break_link(id);
            }
        }
        drop(net);
        for other in wanted {
            PeerLane::ALL.into_iter().for_each(|lane| self.dial(host, link_id(host, other, lane)));
        }
    }

    fn send_frame(self: &Rc<Self>, from: HostId, peer: MemberId, lane: PeerLane, frame: Bytes) -> Result<(), NotSent> {
        let mut net = self.net.borrow_mut();
        let Some(to) = net.endpoints[from.0].find(peer) else {
            return Err(NotSent::NotConnected);
        };
        let id = link_id(from, to, lane);
        let (now, window) = (self.now().0, net.options.window_bytes);
        let Net { prng, options, links, .. } = &mut *net;
        let is_there = |link: &&mut Link| link.is_up && link.members[usize::from(to == id.1)] == peer;
        let Some(link) = links.get_mut(&id).filter(is_there) else { return Err(NotSent::NotConnected) };
        let generation = link.generation;
        let direction = link.directions.entry(from).or_default();
        if direction.under_way_bytes > 0 && direction.under_way_bytes + frame.len() > window {
            return Err(NotSent::Full);
        }
        if options.reset.happens(prng) {
            net.count("lane reset");
            net.break_link(id);
            drop(net);
            self.dial_again(id);
            return Ok(());
        }
        let at = (now + options.latency.draw_ns(prng)).max(direction.last_ns + 1).max(direction.stalled_until_ns);
        direction.last_ns = at;
        direction.under_way_bytes += frame.len();
        drop(net);
        self.schedule(to, at - now, Box::new(move |world| world.net.borrow_mut().arrive(id, from, generation, frame)));
        Ok(())
    }

    /// From now on nothing that `from` sends comes to `to`.
    pub(crate) fn cut(self: &Rc<Self>, from: HostId, to: HostId) {
        let mut net = self.net.borrow_mut();
        if from == to || net.cuts.contains_key(&(from, to)) {
            return;
        }
        net.cut_count += 1;
        net.count("direction cut");
        let number = net.cut_count;
        net.cuts.insert((from, to), number);
        let delay_ns = as_ns(net.options.break_after);
        for host in [from, to] {
            let notice = move |world: &Rc<World>| {
                let is_still_cut = world.net.borrow().cuts.get(&(from, to)) == Some(&number);
                if is_still_cut {
                    world.break_all(from, to);
                }
            };
            self.schedule(host, delay_ns, Box::new(notice));
        }
    }

    fn break_all(self: &Rc<Self>, a: HostId, b: HostId) {
        for lane in PeerLane::ALL {
            let id = link_id(a, b, lane);
            self.net.borrow_mut().break_link(id);
            self.dial_again(id);
        }
    }

    pub(crate) fn heal(&self, from: HostId, to: HostId) {
        let mut net = self.net.borrow_mut();
        if net.cuts.remove(&(from, to)).is_some() {
            net.release(from, to);
        }
    }

    pub(crate) fn heal_all(&self) {
        let cuts: Vec<_> = self.net.borrow().cuts.keys().copied().collect();
        cuts.into_iter().for_each(|(from, to)| self.heal(from, to));
    }

    /// What is sent from now on doesn't arrive before `duration_ns` have passed.
    pub(crate) fn stall_lane(&self, from: HostId, to: HostId, lane: PeerLane, duration_ns: u64) {
        let mut net = self.net.borrow_mut();
        net.count("lane stalled");
        let until = self.now().0.saturating_add(duration_ns);
        if let Some(link) = net.links.get_mut(&link_id(from, to, lane)) {
            link.directions.entry(from).or_default().stalled_until_ns = until;
        }
    }

    pub(crate) fn reset_lane(self: &Rc<Self>, a: HostId, b: HostId, lane: PeerLane) {
        let id = link_id(a, b, lane);
        let mut net = self.net.borrow_mut();
        net.count("lane reset");
        net.break_link(id);
        drop(net);
        self.dial_again(id);
    }
}

/// A member's way to the others. One of a run that crashed neither sends nor gets anything.
#[derive(Clone)]
pub struct SimPeers {
    world: Rc<World>,
    host: HostId,
    epoch: u64,
}

impl SimPeers {
    pub(crate) fn open(world: &Rc<World>, host: HostId, epoch: u64, member: MemberId) -> Self {
        if world.epoch(host) == epoch {
            world.open_endpoint(host, member);
        }
        Self { world: Rc::clone(world), host, epoch }
    }

    fn is_stale(&self) -> bool {
        self.epoch != self.world.epoch(self.host)
    }
}

impl Peers for SimPeers {
    fn set_members(&self, members: Vec<PeerAddress>, removed: Vec<MemberId>) {
        if !self.is_stale() {
            self.world.set_peers(self.host, members, removed);
        }
    }

    fn find_resident(&self, urls: Vec<String>) -> Pin<Box<dyn Future<Output = Option<Resident>>>> {
        let net = self.world.net.borrow();
        let host = host_of(&urls).filter(|host| host.0 < net.endpoints.len() && !net.is_cut(self.host, *host));
        let member = host.and_then(|host| net.member(host));
        // There is only one cluster here, whose id the network doesn't know.
        Box::pin(std::future::ready(member.map(|member| Resident { cluster: 0, member })))
    }

    fn send(&self, to: MemberId, lane: PeerLane, frame: Bytes) -> Result<(), NotSent> {
        if self.is_stale() {
            return Err(NotSent::NotConnected);
        }
        self.world.send_frame(self.host, to, lane, frame)
    }

    fn reset(&self, peer: MemberId, lane: PeerLane) {
        if self.is_stale() {
            return;
        }
        let to = self.world.net.borrow().endpoints[self.host.0].find(peer);
        if let Some(to) = to {
            self.world.reset_lane(self.host, to, lane);
        }
    }

    fn take(&self) -> Option<PeerEvent> {
        if self.is_stale() {
            return None;
        }
        self.world.net.borrow_mut().endpoints[self.host.0].events.pop_front()
    }

    fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        let mut net = self.world.net.borrow_mut();
        let endpoint = &mut net.endpoints[self.host.0];
        if self.is_stale() || endpoint.events.is_empty() {
            endpoint.waker = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}
