//! Several machines in one world: each has its disk, its process, and its end.

use std::{cell::Cell, path::Path, rc::Rc, time::Duration};

use plinth_base::{AlignedBuf, BLOCK_BYTES};
use plinth_env::{Env, File, OpenMode, OpenOptions, TaskQueue};
use plinth_sim_env::{Sim, SimEnv, SimOptions};

const HOSTS: usize = 3;
const TICK: Duration = Duration::from_millis(1);

fn world(seed: u64) -> Sim {
    Sim::with_hosts(seed, SimOptions::default(), HOSTS)
}

/// Counts milliseconds until the host goes down.
fn count(env: &SimEnv) -> Rc<Cell<u64>> {
    let (counted, own) = (Rc::new(Cell::new(0)), env.clone());
    let shown = Rc::clone(&counted);
    env.spawn(TaskQueue::Serve, async move {
        loop {
            own.sleep(TICK).await;
            counted.set(counted.get() + 1);
        }
    });
    shown
}

#[test]
fn one_host_goes_down_and_the_others_go_on() {
    let sim = world(1);
    let counts: Vec<_> = (0..HOSTS).map(|host| count(&sim.host(host).env())).collect();
    sim.run_for(TICK * 10);
    sim.host(1).kill();
    let at_kill: Vec<u64> = counts.iter().map(|count| count.get()).collect();
    sim.run_for(TICK * 10);
    assert_eq!(counts[1].get(), at_kill[1]);
    assert!(counts[0].get() >= at_kill[0] + 8 && counts[2].get() >= at_kill[2] + 8);
}

#[test]
fn a_host_that_is_paused_stands_still_and_catches_up() {
    let sim = world(2);
    let counts: Vec<_> = (0..HOSTS).map(|host| count(&sim.host(host).env())).collect();
    sim.run_for(TICK * 5);
    sim.host(2).pause(TICK * 20);
    let at_pause = counts[2].get();
    sim.run_for(TICK * 15);
    assert_eq!(counts[2].get(), at_pause);
    sim.run_for(TICK * 15);
    assert!(counts[2].get() > at_pause && counts[0].get() > counts[2].get());
}

#[test]
fn disks_are_apart_and_a_power_cut_concerns_one_of_them() {
    let path = Path::new("/data");
    let sim = world(3);
    for host in 0..HOSTS {
        sim.host(host).write_file(path, &[u8::try_from(host).expect("small"); BLOCK_BYTES]).expect("the disk is empty");
    }
    let (first, second) = (sim.host(0).env(), sim.host(1).env());
    sim.block_on(async {
        for env in [&first, &second] {
            let file = env.open(path, OpenOptions::direct(OpenMode::Write)).await.expect("the file is there");
            let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
            buf.as_mut_slice().fill(9);
            file.write_durable(0, buf).await.0.expect("nothing fails");
        }
    });
    sim.host(0).crash();
    let first_byte = |host: usize| sim.host(host).read_file(path).expect("it was durable")[0];
    assert_eq!([first_byte(0), first_byte(1), first_byte(2)], [9, 9, 2]);
    let opened =
        |env: SimEnv| sim.block_on(async move { env.open(path, OpenOptions::direct(OpenMode::Read)).await.is_ok() });
    assert!(
        !opened(first) && opened(second) && opened(sim.host(0).env()),
        "only the environment of the host that went down is stale"
    );
}

#[test]
fn the_same_seed_gives_the_same_run_with_several_hosts() {
    let run = |seed| {
        let sim = world(seed);
        let counts: Vec<_> = (0..HOSTS).map(|host| count(&sim.host(host).env())).collect();
        sim.run_for(TICK * 7);
        sim.host(1).crash();
        sim.run_for(TICK * 7);
        (sim.trace_hash(), counts.iter().map(|count| count.get()).collect::<Vec<_>>())
    };
    assert_eq!(run(4), run(4));
    assert_ne!(run(4).0, run(5).0);
}

#[test]
fn clocks_of_hosts_drift_apart_and_sleeps_follow_them() {
    let sim = world(7);
    sim.host(1).set_clock_rate(1_100_000);
    sim.host(2).set_clock_rate(900_000);
    let counts: Vec<_> = (0..HOSTS).map(|host| count(&sim.host(host).env())).collect();
    let begun: Vec<_> = (0..HOSTS).map(|host| sim.host(host).env().now()).collect();
    sim.run_for(Duration::from_secs(5));
    // Half way it becomes slow: sleeps that were set before don't end too early.
    sim.host(1).set_clock_rate(500_000);
    sim.run_for(Duration::from_secs(5));
    let shown: Vec<_> = (0..HOSTS).map(|host| sim.host(host).env().now().since(begun[host]).as_millis()).collect();
    assert_eq!(shown, [10_000, 8_000, 9_000]);
    assert_eq!(sim.clock().now(), sim.host(0).env().now());
    for (count, shown) in counts.iter().zip(&shown) {
        let count = u128::from(count.get());
        assert!(count <= *shown && count >= shown * 98 / 100, "{count} ticks in {shown} ms");
    }
}
