//! The network between simulated machines, through the trait.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use plinth_base::MemberId;
use plinth_env::{Env, NotSent, PeerAddress, PeerEvent, PeerLane, Peers, TaskQueue};
use plinth_sim_env::{Chance, Sim, SimOptions, SimPeers, url_of};

const MILLI: Duration = Duration::from_millis(1);

/// What one member has heard.
type Heard = Rc<RefCell<Vec<PeerEvent>>>;

fn id(host: usize) -> MemberId {
    MemberId(host as u64 + 1)
}

/// Starts a member on `host` that looks for all of `hosts` and writes down what it hears.
fn start(sim: &Sim, host: usize, hosts: usize) -> (SimPeers, Heard) {
    let env = sim.host(host).env();
    let peers = env.peers(id(host));
    let others = (0..hosts).filter(|other| *other != host);
    peers.set_members(
        others.map(|other| PeerAddress { id: id(other), urls: vec![url_of(other)], has_started: true }).collect(),
        Vec::new(),
    );
    let heard = Heard::default();
    let (listener, noted) = (peers.clone(), Rc::clone(&heard));
    env.spawn(TaskQueue::Consensus, async move {
        loop {
            std::future::poll_fn(|cx| listener.poll_ready(cx)).await;
            while let Some(event) = listener.take() {
                noted.borrow_mut().push(event);
            }
        }
    });
    (peers, heard)
}

/// Numbers of the frames that came from `peer` on `lane`.
fn numbers(heard: &Heard, of: MemberId, on: PeerLane) -> Vec<u32> {
    let number = |event: &PeerEvent| match event {
        PeerEvent::Received { peer, lane, frame } if *peer == of && *lane == on => {
            Some(u32::from_le_bytes(frame[..].try_into().expect("four bytes")))
        }
        _ => None,
    };
    heard.borrow().iter().filter_map(number).collect()
}

fn is_told(heard: &Heard, event: &PeerEvent) -> usize {
    heard.borrow().iter().filter(|told| *told == event).count()
}

fn frame(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

fn pair(seed: u64) -> (Sim, (SimPeers, Heard), (SimPeers, Heard)) {
    let sim = Sim::with_hosts(seed, SimOptions::default(), 2);
    let (first, second) = (start(&sim, 0, 2), start(&sim, 1, 2));
    sim.run_for(MILLI * 200);
    (sim, first, second)
}

#[test]
fn frames_of_a_lane_arrive_once_and_in_order() {
    let (sim, (first, _), (_, heard)) = pair(1);
    for number in 0..500 {
        let lane = PeerLane::ALL[number as usize % 3];
        assert_eq!(first.send(id(1), lane, frame(number)), Ok(()));
        sim.run_for(Duration::from_micros(30));
    }
    sim.run_for(MILLI * 100);
    for (at, lane) in PeerLane::ALL.into_iter().enumerate() {
        let sent: Vec<u32> = (0..500).filter(|number| *number as usize % 3 == at).collect();
        assert_eq!(numbers(&heard, id(0), lane), sent);
        assert_eq!(is_told(&heard, &PeerEvent::Connected { peer: id(0), lane }), 1);
    }
}

#[test]
fn what_is_sent_into_a_cut_waits_and_is_lost_when_the_lane_breaks() {
    let (sim, (first, told), (_, heard)) = pair(2);
    sim.cut(0, 1);
    first.send(id(1), PeerLane::Log, frame(1)).expect("nobody knows of the cut yet");
    sim.run_for(MILLI * 500);
    assert!(numbers(&heard, id(0), PeerLane::Log).is_empty());
    sim.heal_all();
    sim.run_for(MILLI * 10);
    assert_eq!(numbers(&heard, id(0), PeerLane::Log), [1]);

    sim.cut(0, 1);
    first.send(id(1), PeerLane::Log, frame(2)).expect("nobody knows of the cut yet");
    sim.run_for(MILLI * 2500);
    let broken = PeerEvent::Broken { peer: id(1), lane: PeerLane::Log };
    assert_eq!(is_told(&told, &broken), 1);
    assert_eq!(first.send(id(1), PeerLane::Log, frame(3)), Err(NotSent::NotConnected));
    sim.heal_all();
    sim.run_for(MILLI * 200);
    first.send(id(1), PeerLane::Log, frame(4)).expect("it is connected again");
    sim.run_for(MILLI * 100);
    assert_eq!(numbers(&heard, id(0), PeerLane::Log), [1, 4]);
}

#[test]
fn one_lane_stalls_and_the_others_go_on() {
    let (sim, (first, _), (_, heard)) = pair(3);
    sim.stall_lane(0, 1, PeerLane::Bulk, MILLI * 300);
    for lane in PeerLane::ALL {
        first.send(id(1), lane, frame(7)).expect("it is connected");
    }
    sim.run_for(MILLI * 100);
    let arrived = |lane| numbers(&heard, id(0), lane).len();
    assert_eq!(PeerLane::ALL.map(arrived), [1, 1, 0]);
    sim.run_for(MILLI * 300);
    assert_eq!(PeerLane::ALL.map(arrived), [1, 1, 1]);
}

#[test]
fn a_lane_that_is_full_says_so_and_takes_more_when_something_has_arrived() {
    let (sim, (first, _), _) = pair(4);
    sim.change_net(|net| net.window_bytes = 1000);
    let large = || Bytes::from(vec![0; 600]);
    assert_eq!(first.send(id(1), PeerLane::Bulk, large()), Ok(()));
    assert_eq!(first.send(id(1), PeerLane::Bulk, large()), Err(NotSent::Full));
    assert_eq!(first.send(id(1), PeerLane::Pulse, large()), Ok(()), "another lane has room");
    sim.run_for(MILLI * 100);
    assert_eq!(first.send(id(1), PeerLane::Bulk, large()), Ok(()));
}

#[test]
fn a_process_that_ends_is_missed_at_once_and_a_machine_without_power_later() {
    let broken = PeerEvent::Broken { peer: id(1), lane: PeerLane::Pulse };
    let (sim, (first, told), _) = pair(5);
    sim.host(1).kill();
    sim.run_for(MILLI * 10);
    assert_eq!(is_told(&told, &broken), 1);
    drop((sim, first));

    let (sim, (first, told), _) = pair(6);
    sim.host(1).crash();
    sim.run_for(MILLI * 500);
    assert_eq!((is_told(&told, &broken), first.send(id(1), PeerLane::Pulse, frame(1))), (0, Ok(())));
    let (_, heard) = start(&sim, 1, 2);
    sim.run_for(MILLI * 200);
    assert_eq!(is_told(&told, &broken), 1, "the new connection tells that the old one is dead");
    assert_eq!(is_told(&told, &PeerEvent::Connected { peer: id(1), lane: PeerLane::Pulse }), 2);
    assert!(numbers(&heard, id(0), PeerLane::Pulse).is_empty(), "what was sent to the dead one is lost");
}

#[test]
fn wrong_addresses_get_no_connection_and_strangers_introduce_themselves_unless_they_were_removed() {
    let sim = Sim::with_hosts(7, SimOptions::default(), 3);
    let at = |id, url: &str| PeerAddress { id, urls: vec![url.to_owned()], has_started: true };
    // Host 1 is expected to be somebody else.
    let first = sim.host(0).env().peers(id(0));
    first.set_members(vec![at(MemberId(77), &url_of(1)), at(MemberId(99), "http://elsewhere:1")], vec![id(2)]);
    let second = sim.host(1).env().peers(id(1));
    second.set_members(vec![at(id(0), &url_of(0))], Vec::new());
    let (_, removed) = start(&sim, 2, 1);
    sim.run_for(MILLI * 1000);
    for peer in [MemberId(77), id(2), MemberId(99)] {
        assert_eq!(first.send(peer, PeerLane::Log, frame(1)), Err(NotSent::NotConnected));
    }
    assert!(is_told(&removed, &PeerEvent::Expelled { by: id(0) }) > 0);
    assert_eq!(first.send(id(1), PeerLane::Log, frame(1)), Ok(()));
    // It stays until it is known to have been removed.
    first.set_members(Vec::new(), vec![id(2)]);
    assert_eq!(first.send(id(1), PeerLane::Log, frame(1)), Ok(()));
    first.set_members(Vec::new(), vec![id(1), id(2)]);
    assert_eq!(first.send(id(1), PeerLane::Log, frame(1)), Err(NotSent::NotConnected));
}

/// With resets all the time: in order, nothing twice, and only from one connection to the next is something missing.
#[test]
fn resets_lose_frames_and_never_double_or_reorder_them() {
    let mut lost = 0;
    for seed in 10..20 {
        let (sim, (first, told), (_, heard)) = pair(seed);
        sim.change_net(|net| net.reset = Chance::one_in(40));
        let mut sent = 0;
        for number in 0..400 {
            sent += u32::from(first.send(id(1), PeerLane::Log, frame(number)).is_ok());
            sim.run_for(MILLI / 2);
        }
        sim.run_for(MILLI * 300);
        let numbers = numbers(&heard, id(0), PeerLane::Log);
        assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: {numbers:?}");
        lost += sent - u32::try_from(numbers.len()).expect("small");
        assert!(is_told(&told, &PeerEvent::Broken { peer: id(1), lane: PeerLane::Log }) > 0);
    }
    assert!(lost > 0, "something was lost");
}

#[test]
fn run_stops_at_the_frame_that_it_waits_for() {
    let (sim, (first, _), (_, heard)) = pair(1);
    for number in 0..3 {
        assert_eq!(first.send(id(1), PeerLane::Bulk, frame(number)), Ok(()));
    }
    let way = (0, 1, PeerLane::Bulk);
    assert!(sim.run_until_frame(way, |frame| frame[0] == 1, MILLI * 100));
    assert!(numbers(&heard, id(0), PeerLane::Bulk).len() < 2, "nobody has taken it yet");
    let before = sim.elapsed();
    assert!(!sim.run_until_frame(way, |frame| frame[0] == 1, MILLI * 100));
    assert_eq!(sim.elapsed() - before, MILLI * 100);
    assert_eq!(numbers(&heard, id(0), PeerLane::Bulk), [0, 1, 2]);
}
