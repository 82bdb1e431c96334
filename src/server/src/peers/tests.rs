//! Two members on in-memory pipes that can be cut.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use plinth_base::{GroupId, Instant, LogIndex, MemberId, Term};
use plinth_env::{NotSent, PeerAddress, PeerEvent, PeerLane, Peers};
use plinth_node::peers::{HANDSHAKE_BYTES, Hello, Purpose, Refused, Welcome};
use plinth_raft::{Body, Entry, Message, Position};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{AllCounts, Dial, Me, Network};
use crate::conn::Runtime;

const CLUSTER: u64 = 7;
const PIPE_BYTES: usize = 4 << 10;

#[derive(Clone)]
struct Tokio;

impl Runtime for Tokio {
    fn now(&self) -> Instant {
        // Each test has a thread and a clock of its own.
        thread_local!(static BEGAN: tokio::time::Instant = tokio::time::Instant::now());
        Instant(1_000_000_000) + BEGAN.with(tokio::time::Instant::elapsed)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }
}

type Member = Network<Tokio, Wires>;

/// Who is found at which URL.
#[derive(Clone, Default)]
struct Wires {
    members: Rc<RefCell<BTreeMap<String, Member>>>,
    /// Connections get through.
    is_cut: Rc<Cell<bool>>,
    dialed: Rc<Cell<u64>>,
}

impl Dial for Wires {
    type Socket = DuplexStream;

    async fn dial(&self, url: String) -> io::Result<DuplexStream> {
        self.dialed.set(self.dialed.get() + 1);
        let there = self.members.borrow().get(&url).cloned();
        let Some(there) = there.filter(|_| !self.is_cut.get()) else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (near, far) = duplex(PIPE_BYTES);
        tokio::task::spawn_local(async move { there.serve(far).await });
        Ok(near)
    }
}

fn me(member: u64) -> Me {
    let patience = Duration::from_secs(1);
    let heartbeat_interval = Duration::from_millis(100);
    Me { cluster: CLUSTER, member: MemberId(member), incarnation: member, page_format: 2, patience, heartbeat_interval }
}

fn member(wires: &Wires, id: u64) -> Member {
    let member = Network::new(me(id), AllCounts::default(), Tokio, wires.clone());
    wires.members.borrow_mut().insert(format!("m{id}"), member.clone());
    member
}

fn address(id: u64) -> PeerAddress {
    PeerAddress { id: MemberId(id), urls: vec![format!("m{id}")], has_started: true }
}

/// The next event, if one comes soon.
async fn event(member: &Member) -> Option<PeerEvent> {
    let next = std::future::poll_fn(|cx| member.poll_ready(cx));
    tokio::time::timeout(Duration::from_secs(5), next).await.ok()?;
    member.take()
}

async fn connected(member: &Member, lanes: usize) {
    for _ in 0..lanes {
        assert!(matches!(event(member).await, Some(PeerEvent::Connected { .. })));
    }
}

/// Two members that know each other, all lanes between them connected.
async fn pair(wires: &Wires) -> (Member, Member) {
    let (one, two) = (member(wires, 1), member(wires, 2));
    one.set_members(vec![address(2)], Vec::new());
    two.set_members(vec![address(1)], Vec::new());
    connected(&one, 3).await;
    connected(&two, 3).await;
    (one, two)
}

fn append(number: u64, payload_bytes: usize) -> Bytes {
    let entry = Entry { index: LogIndex(2), term: Term(1), is_change: false, payload: vec![7; payload_bytes].into() };
    let previous = Position { index: LogIndex(1), term: Term(1) };
    let body = Body::Append { previous, commit: LogIndex(number), entries: vec![entry] };
    let mut out = BytesMut::new();
    let message = Message { from: MemberId(1), to: MemberId(2), term: Term(1), body };
    plinth_node::peers::encode(GroupId(0), &message, &mut out);
    out.freeze()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test);
}

#[test]
fn frames_of_all_lengths_arrive_whole_and_in_order_and_a_cut_is_told() {
    run(async {
        let wires = Wires::default();
        let (one, two) = pair(&wires).await;
        let lengths = [0, 10, 70_000, 1, 300_000, 65_536, 5];
        let frames: Vec<Bytes> = (0..).zip(lengths).map(|(number, bytes)| append(number, bytes)).collect();
        for frame in &frames {
            one.send(MemberId(2), PeerLane::Log, frame.clone()).expect("there is room");
        }
        for frame in &frames {
            let got = event(&two).await;
            let (peer, lane) = (MemberId(1), PeerLane::Log);
            assert!(got == Some(PeerEvent::Received { peer, lane, frame: frame.clone() }));
        }
        // The URL of a member changes: its connections end, and new ones are made.
        one.set_members(
            vec![PeerAddress {
                id: MemberId(2),
                urls: vec!["m2".to_owned(), "elsewhere".to_owned()],
                has_started: true,
            }],
            Vec::new(),
        );
        for _ in 0..3 {
            assert!(matches!(event(&one).await, Some(PeerEvent::Broken { .. })));
        }
        connected(&one, 3).await;
    });
}

#[test]
fn how_late_a_heartbeat_was_written_is_counted() {
    run(async {
        let wires = Wires::default();
        let (one, two) = pair(&wires).await;
        let now = one.0.runtime.now();
        for (late_ms, lane) in [(5, PeerLane::Pulse), (15, PeerLane::Pulse), (150, PeerLane::Pulse)] {
            let due = Instant(now.0 - late_ms * 1_000_000);
            one.send_due(MemberId(2), lane, append(0, 1), due).expect("there is room");
        }
        one.send(MemberId(2), PeerLane::Pulse, append(0, 1)).expect("there is room");
        for _ in 0..4 {
            assert!(matches!(event(&two).await, Some(PeerEvent::Received { lane: PeerLane::Pulse, .. })));
        }
        let counts = &one.0.counts.figures()[0];
        assert_eq!((counts.heartbeat_lateness.count(), counts.late_heartbeats), (3, 1));
        assert!((170_000_000..171_000_000).contains(&counts.heartbeat_lateness.sum), "{:?}", counts.heartbeat_lateness);
    });
}

#[test]
fn a_peer_that_takes_nothing_costs_a_bounded_outbox_and_one_that_is_away_nothing() {
    run(async {
        let wires = Wires::default();
        let (one, two) = (member(&wires, 1), member(&wires, 2));
        one.set_members(vec![address(2)], Vec::new());
        assert_eq!(one.send(MemberId(2), PeerLane::Log, append(0, 1)), Err(NotSent::NotConnected));
        assert_eq!(one.send(MemberId(9), PeerLane::Log, append(0, 1)), Err(NotSent::NotConnected));
        two.set_members(vec![address(1)], Vec::new());
        connected(&one, 3).await;
        let mut sent = 0;
        while one.send(MemberId(2), PeerLane::Log, append(0, 1 << 20)).is_ok() {
            sent += 1;
            assert!(sent < 100, "an outbox is bounded");
        }
        assert_eq!(one.send(MemberId(2), PeerLane::Log, append(0, 1 << 20)), Err(NotSent::Full));
        assert_eq!(one.send(MemberId(2), PeerLane::Pulse, append(0, 1)), Ok(()), "no lane waits for another");
    });
}

#[test]
fn strangers_are_refused_with_the_reason_and_a_removed_member_is_told() {
    run(async {
        let wires = Wires::default();
        let (one, two) = (member(&wires, 1), member(&wires, 2));
        let hello = |cluster, from, to| Hello {
            purpose: Purpose::Carry(PeerLane::Log),
            cluster,
            from: MemberId(from),
            to: MemberId(to),
            incarnation: 1,
            page_format: 2,
        };
        two.set_members(Vec::new(), vec![MemberId(1)]);
        for (hello, want) in [
            (hello(CLUSTER + 1, 1, 2).encode(), Refused::OtherCluster(CLUSTER)),
            (hello(CLUSTER, 1, 3).encode(), Refused::OtherMember(MemberId(2))),
            (hello(CLUSTER, 5, 2).encode(), Refused::UnknownMember),
            (hello(CLUSTER, 1, 2).encode(), Refused::Removed),
            ([b'G'; HANDSHAKE_BYTES], Refused::NotPlinth),
        ] {
            let mut socket = wires.dial("m2".to_owned()).await.expect("it is there");
            socket.write_all(&hello).await.expect("the pipe is open");
            let mut answer = [0; HANDSHAKE_BYTES];
            socket.read_exact(&mut answer).await.expect("an answer");
            let welcome = Welcome::decode(&answer).expect("a welcome");
            assert_eq!(welcome.refused, Some(want));
            assert_eq!(socket.read(&mut answer).await.expect("the end"), 0);
        }
        one.set_members(vec![address(2)], Vec::new());
        assert_eq!(event(&one).await, Some(PeerEvent::Expelled { by: MemberId(2) }));
    });
}

#[test]
fn a_member_that_was_added_meanwhile_introduces_itself_and_is_forgotten_when_it_was_removed() {
    run(async {
        let wires = Wires::default();
        let (one, two) = (member(&wires, 1), member(&wires, 2));
        two.set_members(vec![address(2)], Vec::new());
        one.set_members(vec![address(1), address(2)], Vec::new());
        connected(&one, 3).await;
        connected(&two, 3).await;
        two.send(MemberId(1), PeerLane::Pulse, append(0, 1)).expect("it can be answered");
        assert!(matches!(event(&one).await, Some(PeerEvent::Received { .. })));
        // It stays while others come and go, without being called a member.
        two.set_members(vec![address(2), address(3)], Vec::new());
        assert_eq!(two.send(MemberId(1), PeerLane::Pulse, append(0, 1)), Ok(()));
        assert_eq!(two.0.state.borrow().members, vec![address(2), address(3)]);
        two.set_members(vec![address(2)], vec![MemberId(1)]);
        assert_eq!(two.send(MemberId(1), PeerLane::Pulse, append(0, 1)), Err(NotSent::NotConnected));
        let told = async { while event(&one).await != Some(PeerEvent::Expelled { by: MemberId(2) }) {} };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("it is told");
    });
}

#[test]
fn hostile_bytes_close_their_connection_and_nothing_else() {
    run(async {
        let wires = Wires::default();
        let two = member(&wires, 2);
        two.set_members(vec![address(1)], Vec::new());
        let mut socket = wires.dial("m2".to_owned()).await.expect("it is there");
        let hello = Hello {
            purpose: Purpose::Carry(PeerLane::Log),
            cluster: CLUSTER,
            from: MemberId(1),
            to: MemberId(2),
            incarnation: 1,
            page_format: 2,
        };
        socket.write_all(&hello.encode()).await.expect("the pipe is open");
        let mut answer = [0; HANDSHAKE_BYTES];
        socket.read_exact(&mut answer).await.expect("an answer");
        let frame = append(1, 100);
        socket.write_all(&frame).await.expect("the pipe is open");
        assert!(matches!(event(&two).await, Some(PeerEvent::Received { .. })));
        // A frame of 4 GiB is announced.
        let mut bad = BytesMut::new();
        bad.put_u32_le(u32::MAX);
        bad.put_bytes(0, 100);
        let _ = socket.write_all(&bad).await;
        assert_eq!(socket.read(&mut answer).await.expect("the end"), 0);
        // Whoever says nothing is sent away, too.
        let mut silent = wires.dial("m2".to_owned()).await.expect("it is there");
        assert_eq!(silent.read(&mut answer).await.expect("the end"), 0);
    });
}

#[test]
fn attempts_to_connect_get_rarer_and_a_call_from_the_peer_ends_the_wait() {
    run(async {
        let wires = Wires::default();
        let (one, two) = (member(&wires, 1), member(&wires, 2));
        wires.is_cut.set(true);
        one.set_members(vec![address(2)], Vec::new());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let dialed = wires.dialed.get();
        assert!((60..=3 * 70).contains(&dialed), "{dialed} attempts in a minute");
        wires.is_cut.set(false);
        two.set_members(vec![address(1)], Vec::new());
        let begun = tokio::time::Instant::now();
        connected(&one, 3).await;
        assert!(begun.elapsed() < Duration::from_millis(100), "it called, so it is there: {:?}", begun.elapsed());
    });
}
