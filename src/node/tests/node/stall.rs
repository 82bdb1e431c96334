//! A log whose device takes long.

use std::{cell::RefCell, rc::Rc, time::Duration};

use plinth_env::{Env, TaskQueue};
use plinth_node::{ShardOptions, api::Api};
use plinth_rpc::{Status, errors};
use plinth_sim_env::{OpKind, Sim, SimEnv, SimOptions};

use crate::support::{Node, WAL_DIR, keys, options, put, start};

const SOFT_LIMIT: Duration = Duration::from_millis(500);

/// A member with one key.
async fn well(env: &SimEnv) -> Node {
    // A seal would take its part in the planned delays.
    let options = ShardOptions { stall_soft: SOFT_LIMIT, seal_after: Duration::from_secs(3600), ..options() };
    let node = start(env, options).await.expect("an empty disk takes a member");
    put(&node.api, "first").await.expect("the device is well");
    node
}

/// The answer of a put that goes on beside the test.
type Answer = Rc<RefCell<Option<Result<(), Status>>>>;

fn put_beside(env: &SimEnv, api: &Api<SimEnv>, key: &'static str) -> Answer {
    let answer = Answer::default();
    let (to, api) = (Rc::clone(&answer), api.clone());
    env.spawn(TaskQueue::Serve, async move {
        let result = put(&api, key).await;
        *to.borrow_mut() = Some(result);
    });
    answer
}

#[test]
fn a_short_stall_of_the_log_only_takes_time_and_clears_by_itself() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let node = well(&env).await;
        sim.delay_op(OpKind::Write, WAL_DIR, 0, Duration::from_secs(3));
        let slow = put_beside(&env, &node.api, "slow");
        env.sleep(SOFT_LIMIT / 2).await;
        assert_eq!(node.handle.metrics.wal_stalled.get(), 0, "not late yet");
        env.sleep(SOFT_LIMIT).await;
        assert_eq!(node.handle.metrics.wal_stalled.get(), 1);
        let held = put_beside(&env, &node.api, "held");
        env.sleep(Duration::from_millis(100)).await;
        assert!(slow.borrow().is_none() && held.borrow().is_none());
        assert_eq!(keys(&node.api).await, 1, "what isn't durable isn't seen");
        env.sleep(Duration::from_secs(3)).await;
        assert_eq!((slow.borrow().clone(), held.borrow().clone()), (Some(Ok(())), Some(Ok(()))));
        assert_eq!((node.handle.metrics.wal_stalled.get(), node.handle.metrics.wal_stalls.get()), (0, 1));
        assert_eq!(keys(&node.api).await, 3);
    });
}

#[test]
fn what_waited_out_its_time_in_a_stall_is_answered_as_timed_out_and_never_made() {
    let sim = Sim::new(2, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let node = well(&env).await;
        sim.delay_op(OpKind::Write, WAL_DIR, 0, Duration::from_secs(30));
        let slow = put_beside(&env, &node.api, "slow");
        env.sleep(Duration::from_secs(1)).await;
        let held = put_beside(&env, &node.api, "held");
        env.sleep(Duration::from_secs(10)).await;
        let timed_out = Some(Err(errors::TIMEOUT));
        assert_eq!((slow.borrow().clone(), held.borrow().clone()), (timed_out.clone(), timed_out));
        env.sleep(Duration::from_secs(20)).await;
        put(&node.api, "later").await.expect("the device answers again");
        assert_eq!(keys(&node.api).await, 3, "first, slow and later: the held one was never made");
    });
}
