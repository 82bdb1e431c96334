//! Leases on a member: they expire in time, survive a restart, and many of them at once disturb nobody.

use std::{cell::Cell, rc::Rc, time::Duration};

use plinth_env::{Env, TaskQueue};
use plinth_node::{ShardOptions, api::Api};
use plinth_rpc::etcdserverpb as pb;
use plinth_sim_env::{Chance, OpKind, Sim, SimEnv, SimOptions};

use crate::support::{Node, TREE, WAL_DIR, keys, options, put, start};

async fn grant(api: &Api<SimEnv>, id: i64, ttl: i64) {
    let granted = api.lease_grant(pb::LeaseGrantRequest { id, ttl }).await.expect("granted");
    assert_eq!((granted.id, granted.ttl), (id, ttl));
}

async fn put_with(api: &Api<SimEnv>, key: String, lease: i64) {
    let request = pb::PutRequest { key: key.into(), lease, ..Default::default() };
    api.put(request).await.expect("the lease is there");
}

async fn ttl(api: &Api<SimEnv>, id: i64) -> i64 {
    api.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: false }).await.expect("answered").ttl
}

async fn seconds(env: &SimEnv, seconds: u64) {
    env.sleep(Duration::from_secs(seconds)).await;
}

async fn member(env: &SimEnv) -> Node {
    start(env, options()).await.expect("the disk is well")
}

#[test]
fn a_lease_expires_within_a_tick_and_a_renewed_one_doesnt() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = member(&env).await;
        grant(&api, 1, 5).await;
        grant(&api, 2, 5).await;
        put_with(&api, "a".to_owned(), 1).await;
        put_with(&api, "b".to_owned(), 2).await;
        seconds(&env, 3).await;
        assert_eq!(api.lease_renew(2).await.expect("answered").ttl, 5);
        assert_eq!((ttl(&api, 1).await, ttl(&api, 2).await), (1, 4));
        env.sleep(Duration::from_millis(1900)).await;
        assert_eq!(keys(&api).await, 2, "not early");
        env.sleep(Duration::from_millis(300)).await;
        assert_eq!(keys(&api).await, 1, "not late");
        assert_eq!(api.lease_renew(1).await.expect("answered").ttl, 0);
        assert_eq!((ttl(&api, 1).await, ttl(&api, 2).await), (-1, 2));
        seconds(&env, 3).await;
        assert_eq!(keys(&api).await, 0);
    });
}

#[test]
fn a_renewal_that_comes_too_late_is_answered_when_the_keys_are_gone() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = member(&env).await;
        grant(&api, 1, 2).await;
        put_with(&api, "a".to_owned(), 1).await;
        // Between two ticks.
        env.sleep(Duration::from_micros(1_999_000)).await;
        for _ in 0..100 {
            let renewed = api.lease_renew(1).await.expect("answered").ttl;
            if renewed == 0 {
                assert_eq!(keys(&api).await, 0);
                return;
            }
            env.sleep(Duration::from_millis(2001)).await;
        }
        panic!("it never came too late");
    });
}

#[test]
fn leases_survive_a_stop_and_a_kill_and_begin_anew() {
    let sim = Sim::new(3, SimOptions::default());
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = member(&env).await;
        grant(&api, 1, 10).await;
        grant(&api, 2, 20).await;
        put_with(&api, "a".to_owned(), 1).await;
        put_with(&api, "b".to_owned(), 2).await;
        seconds(&env, 8).await;
        api.stop().await;
    });
    sim.kill();
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = member(&env).await;
        grant(&api, 3, 5).await;
        put_with(&api, "c".to_owned(), 3).await;
        // The whole TTL, and an election timeout.
        seconds(&env, 4).await;
        assert_eq!((ttl(&api, 1).await, ttl(&api, 2).await, ttl(&api, 3).await), (6, 16, 0));
        let listed = api.lease_leases().await.expect("answered").leases;
        assert_eq!(listed.iter().map(|lease| lease.id).collect::<Vec<_>>(), [3, 1, 2]);
        seconds(&env, 2).await;
        assert_eq!(keys(&api).await, 2);
    });
    // This time nobody says goodbye.
    sim.kill();
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = member(&env).await;
        assert_eq!(keys(&api).await, 2);
        seconds(&env, 12).await;
        assert_eq!(keys(&api).await, 1);
        seconds(&env, 10).await;
        assert_eq!(keys(&api).await, 0);
        assert_eq!(api.lease_leases().await.expect("answered").leases, []);
    });
}

/// A grant that was replayed counted from the replay, without the election timeout: a renewal just before the kill would have been for nothing.
#[test]
fn a_lease_whose_grant_is_replayed_has_its_ttl_and_an_election_timeout() {
    let sim = Sim::new(7, SimOptions::default());
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = member(&env).await;
        grant(&api, 1, 2).await;
        put_with(&api, "a".to_owned(), 1).await;
    });
    sim.kill();
    sim.block_on(async {
        let env = sim.env();
        let Node { api, .. } = member(&env).await;
        env.sleep(Duration::from_millis(2900)).await;
        assert_eq!(keys(&api).await, 1, "not early");
        env.sleep(Duration::from_millis(400)).await;
        assert_eq!(keys(&api).await, 0, "not late");
    });
}

/// One put after the other; tells how long the slowest took.
async fn put_meanwhile(env: SimEnv, api: Api<SimEnv>, slowest: Rc<Cell<Duration>>, ended: Rc<Cell<bool>>) {
    while !ended.get() {
        let began = env.now();
        put(&api, "meanwhile").await.expect("put");
        slowest.set(slowest.get().max(env.now().since(began)));
        env.sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_hundred_thousand_leases_that_expire_at_once_are_gone_within_two_seconds_and_hold_up_no_turn() {
    const LEASES: i64 = 100_000;
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, handle } = member(&env).await;
        // Granted over the time that it takes, they expire together: after a restart all TTLs begin at once. Here it is quicker to ask for as much as
        // is left until then.
        let began = env.now();
        for id in 1..=LEASES {
            let elapsed = i64::try_from(env.now().since(began).as_secs()).expect("a short test");
            grant(&api, id, 1000 - elapsed).await;
            if id % 100 == 0 {
                put_with(&api, format!("key {id}"), id).await;
            }
        }
        assert!(env.now().since(began) < Duration::from_secs(900));
        assert_eq!(keys(&api).await, LEASES / 100);
        let (slowest, ended) = (Rc::new(Cell::new(Duration::ZERO)), Rc::new(Cell::new(false)));
        let others = put_meanwhile(env.clone(), api.clone(), Rc::clone(&slowest), Rc::clone(&ended));
        env.spawn(TaskQueue::Serve, others);
        env.sleep_until(began + Duration::from_secs(1003)).await;
        ended.set(true);
        assert_eq!(keys(&api).await, 1, "what was put meanwhile");
        assert_eq!(api.lease_leases().await.expect("answered").leases, []);
        assert!(slowest.get() < Duration::from_millis(200), "a put took {:?}", slowest.get());
        drop(handle);
    });
}

/// The sender of a renewal looks the lease up before it asks the shard. It could wait for a page in between, and of a lease that was gone by then the
/// shard believed that it was one from before the start.
#[test]
fn a_renewal_that_arrives_when_the_lease_is_gone_says_so() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    let options = ShardOptions { checkpoint_age: Duration::from_millis(200), ..options() };
    let (asker, began) = sim.block_on(async {
        let Node { api, .. } = start(&env, options).await.expect("the disk is well");
        let began = env.now();
        grant(&api, 1, 2).await;
        env.sleep_until(began + Duration::from_millis(1990)).await;
        (api, began)
    });
    // The page that says so isn't in memory, and its load takes long; what expires the lease finds it meanwhile.
    sim.change_faults(|faults| faults.page_miss = Chance::ALWAYS);
    sim.delay_op(OpKind::Load, TREE, 0, Duration::from_millis(500));
    let renewed = Rc::new(Cell::new(None));
    let to = Rc::clone(&renewed);
    env.spawn(TaskQueue::Serve, async move {
        to.set(Some(asker.lease_renew(1).await.expect("answered").ttl));
    });
    sim.run_for(Duration::from_millis(1));
    sim.change_faults(|faults| faults.page_miss = Chance::NEVER);
    sim.run_for(Duration::from_secs(1));
    assert!(env.now().since(began) < Duration::from_secs(3), "else it would have expired in any case");
    assert_eq!(renewed.get(), Some(0));
}

/// While the log's device stalls nothing expires, and a renewal that came too late was told that its lease is gone.
#[test]
fn a_renewal_that_comes_too_late_in_a_stall_waits_for_the_revocation() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let Node { api, .. } = member(&env).await;
        grant(&api, 1, 2).await;
        put_with(&api, "a".to_owned(), 1).await;
        env.sleep(Duration::from_millis(1000)).await;
        sim.delay_op(OpKind::Write, WAL_DIR, 0, Duration::from_millis(3000));
        let stalled = api.clone();
        env.spawn(TaskQueue::Serve, async move { put(&stalled, "b").await.expect("in the end") });
        env.sleep(Duration::from_millis(1500)).await;
        assert_eq!(api.lease_renew(1).await.expect("answered").ttl, 0);
        assert_eq!(keys(&api).await, 1, "its key is gone");
    });
}
