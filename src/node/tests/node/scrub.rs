//! Passes over a tree file beside the work: how long they take, and what rot does.

use std::{path::Path, time::Duration};

use plinth_kv::AlarmKind;
use plinth_node::ShardOptions;
use plinth_rpc::{errors, etcdserverpb as pb};
use plinth_sim_env::{OpKind, Sim, SimEnv, SimOptions};

use crate::support::{Node, TREE, keys, options, put, start};

const KEYS: i64 = 400;
const VALUE_BYTES: usize = 5_000;

fn scrubbed_every(interval: Duration) -> ShardOptions {
    ShardOptions { scrub_interval: interval, ..options() }
}

/// The files of a member that was stopped cleanly: two megabytes, most of it in runs of pages that only reads of one key need.
fn stopped(seed: u64) -> Sim {
    let sim = Sim::new(seed, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let node = start(&env, scrubbed_every(Duration::ZERO)).await.expect("an empty disk takes a member");
        for key in 0..KEYS {
            let value = format!("value-{key:05}{}", "x".repeat(VALUE_BYTES)).into();
            let request = pb::PutRequest { key: format!("key-{key:05}").into(), value, ..Default::default() };
            node.api.put(request).await.expect("the device is well");
        }
        node.api.stop().await;
        assert_eq!(node.handle.metrics.scrub_pages.get(), 0, "no scrub was asked for");
    });
    sim.kill();
    sim
}

/// Flips a bit of a value, or flips it back; gives its page.
fn flip(sim: &Sim, content: &[u8], key: i64) -> u64 {
    let value = format!("value-{key:05}");
    let at =
        content.windows(value.len()).position(|window| window == value.as_bytes()).expect("values are stored whole");
    assert!(sim.flip_bit(Path::new(TREE), at as u64));
    at as u64 / 4096
}

fn begin(sim: &Sim, interval: Duration) -> Node {
    let env = sim.env();
    sim.block_on(async { start(&env, scrubbed_every(interval)).await.expect("the files are sound enough for a start") })
}

fn alarms(node: &Node) -> Vec<(u64, AlarmKind)> {
    node.handle.groups[0].root().state.alarms.clone()
}

async fn disarm(node: &Node) {
    let request = pb::AlarmRequest { action: 2, member_id: 1, alarm: AlarmKind::Corrupt as i32 };
    node.api.alarm(request).await.expect("an alarm can always be cleared");
}

#[test]
fn rot_that_nobody_reads_raises_the_alarm_once_and_reads_go_on() {
    let sim = stopped(1);
    let content = sim.read_file(Path::new(TREE)).expect("there");
    let node = begin(&sim, Duration::from_secs(2));
    sim.run_for(Duration::from_secs(5));
    let metrics = &node.handle.metrics;
    assert_eq!((alarms(&node), metrics.scrub_corruptions.get()), (Vec::new(), 0));
    assert!(metrics.scrub_passes.get() >= 2, "{} passes", metrics.scrub_passes.get());
    flip(&sim, &content, 222);
    sim.run_for(Duration::from_secs(3));
    let raised = vec![(1, AlarmKind::Corrupt)];
    assert_eq!(alarms(&node), raised);
    sim.block_on(async {
        assert_eq!(put(&node.api, "new").await, Err(errors::CORRUPT));
        assert_eq!(keys(&node.api).await, KEYS, "nothing else needs that page");
    });
    let (applied, found) = (node.handle.groups[0].status.applied(), metrics.scrub_corruptions.get());
    sim.run_for(Duration::from_secs(30));
    assert!(metrics.scrub_corruptions.get() >= found + 10, "each pass finds it");
    assert_eq!(node.handle.groups[0].status.applied(), applied, "the alarm stands, and nobody raises it again");
    sim.block_on(disarm(&node));
    sim.run_for(Duration::from_secs(3));
    assert_eq!(alarms(&node), raised, "what is rotten still is");
    flip(&sim, &content, 222);
    sim.run_for(Duration::from_secs(3));
    sim.block_on(disarm(&node));
    sim.run_for(Duration::from_secs(10));
    assert_eq!(alarms(&node), Vec::new());
    sim.block_on(async { put(&node.api, "new").await.expect("the alarm is cleared") });
}

#[test]
fn every_rotten_page_is_found_in_one_pass() {
    let sim = stopped(2);
    let content = sim.read_file(Path::new(TREE)).expect("there");
    // Of different leaves: what hangs on the rest of one is left to the next pass.
    let rotten = [10, 150, 390].map(|key| flip(&sim, &content, key));
    let node = begin(&sim, Duration::from_secs(5));
    let metrics = &node.handle.metrics;
    let has_ended = || metrics.scrub_passes.get() == 1;
    assert!(sim.run_until(Duration::from_millis(1), Duration::from_secs(6), has_ended), "a pass takes five seconds");
    assert_eq!(metrics.scrub_corruptions.get(), rotten.len() as u64, "{rotten:?}");
}

#[test]
fn a_pass_takes_its_interval() {
    let sim = stopped(3);
    let node = begin(&sim, Duration::from_secs(60));
    let metrics = &node.handle.metrics;
    let mut before_ppm = 0;
    for seconds in 1..58_i64 {
        let progress_ppm = metrics.scrub_progress_ppm.get();
        // A slice is about a sixteenth.
        let want_ppm = seconds * 1_000_000 / 60;
        assert!(
            (progress_ppm - want_ppm).abs() < 120_000 || metrics.scrub_passes.get() == 1,
            "{progress_ppm} at {seconds} s"
        );
        assert!(progress_ppm >= before_ppm, "{progress_ppm} after {before_ppm}");
        before_ppm = progress_ppm;
        sim.run_for(Duration::from_secs(1));
    }
    sim.run_for(Duration::from_millis(2_700));
    assert_eq!((metrics.scrub_passes.get(), metrics.scrub_progress_ppm.get()), (1, 1_000_000));
    let pages = metrics.scrub_pages.get();
    assert!(pages > 400 && pages < 1_000, "{pages} pages");
    let ended = u64::try_from(metrics.last_scrub_pass.get()).expect("a time after 1970");
    assert!(ended.abs_diff(unix_seconds(&sim.env())) < 10);
    sim.run_for(Duration::from_secs(30));
    assert!(
        metrics.scrub_pages.get() > pages && metrics.scrub_progress_ppm.get() < 600_000,
        "the next one is under way"
    );
}

fn unix_seconds(env: &SimEnv) -> u64 {
    plinth_env::Env::unix_time(env).as_secs()
}

#[test]
fn a_read_that_fails_raises_nothing_and_is_tried_again() {
    let sim = stopped(4);
    let node = begin(&sim, Duration::from_secs(4));
    let metrics = &node.handle.metrics;
    for skip in [3, 100, 250] {
        sim.fail_op(OpKind::Read, "group-0.tree", skip);
    }
    sim.run_for(Duration::from_secs(60));
    assert_eq!((alarms(&node), metrics.scrub_corruptions.get()), (Vec::new(), 0));
    let passes = metrics.scrub_passes.get();
    assert!((2..10).contains(&passes), "{passes} passes: those with a failure waited for their next try");
}
