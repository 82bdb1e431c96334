//! Scheduling, virtual time, and sameness of runs.

use std::{cell::RefCell, path::Path, rc::Rc, time::Duration};

use plinth_base::{AlignedBuf, mailbox};
use plinth_env::{Env, File, OpenMode, OpenOptions, TaskQueue};
use plinth_sim_env::{Limit, Sim, SimEnv, SimOptions, Stopped};

#[test]
fn timers_fire_in_the_order_of_their_times() {
    let order = plinth_sim_env::run(1, |env| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for ms in [30u64, 10, 50, 20, 40] {
            let (env_of_task, order) = (env.clone(), Rc::clone(&order));
            env.spawn(TaskQueue::Serve, async move {
                env_of_task.sleep(Duration::from_millis(ms)).await;
                order.borrow_mut().push(ms);
            });
        }
        let start = env.now();
        env.sleep(Duration::from_millis(100)).await;
        let slept = env.now().since(start);
        assert!(slept >= Duration::from_millis(100) && slept < Duration::from_millis(101), "slept {slept:?}");
        order.borrow().clone()
    });
    assert_eq!(order, [10, 20, 30, 40, 50]);
}

#[test]
fn hour_of_virtual_time_passes_at_once() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    sim.block_on(async { env.sleep(Duration::from_secs(3600)).await });
    assert!(sim.elapsed() >= Duration::from_secs(3600));
    let before = env.unix_time();
    sim.run_for(Duration::from_secs(10));
    assert_eq!(env.unix_time() - before, Duration::from_secs(10));
}

#[test]
fn deadlock_is_an_error_that_names_what_waits() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    env.spawn(TaskQueue::Consensus, std::future::pending());
    let stopped = sim.try_block_on(std::future::pending::<()>());
    let Err(Stopped::Deadlock(what)) = stopped else { panic!("{stopped:?}") };
    assert!(what.contains("(Consensus) spawned at") && what.contains("executor.rs"), "{what}");
}

#[test]
fn tasks_in_circles_are_an_error() {
    let sim = Sim::new(1, SimOptions { polls_max: 1000, ..SimOptions::default() });
    let env = sim.env();
    let stopped = sim.try_block_on(async {
        loop {
            env.yield_now().await;
        }
    });
    assert!(matches!(stopped, Err::<(), _>(Stopped::Livelock(_))));
}

#[test]
fn task_that_only_yields_lets_time_pass() {
    plinth_sim_env::run(1, |env| async move {
        let start = env.now();
        while env.now().since(start) < Duration::from_millis(1) {
            env.yield_now().await;
        }
    });
}

#[test]
fn wakes_through_a_mailbox_reach_the_task() {
    let sum = plinth_sim_env::run(3, |env| async move {
        let (tx, mut rx) = mailbox::mailbox::<u64>(8);
        let sender = env.clone();
        env.spawn(TaskQueue::Serve, async move {
            for n in 1..=100 {
                while tx.send(n).is_err() {
                    sender.sleep(Duration::from_micros(7)).await;
                }
            }
        });
        let (mut sum, mut got) = (0, 0);
        while got < 100 {
            rx.ready().await;
            while let Some(n) = rx.take() {
                sum += n;
                got += 1;
            }
        }
        sum
    });
    assert_eq!(sum, 5050);
}

#[test]
fn limit_of_time_leaves_spawned_tasks_alive() {
    let sim = Sim::new(1, SimOptions::default());
    let env = sim.env();
    let count = Rc::new(RefCell::new(0));
    let (ticker, ticks) = (env.clone(), Rc::clone(&count));
    env.spawn(TaskQueue::Background, async move {
        loop {
            ticker.sleep(Duration::from_millis(10)).await;
            *ticks.borrow_mut() += 1;
        }
    });
    let limit = Limit::Time(Duration::from_millis(105));
    assert_eq!(sim.block_on_within(std::future::pending::<()>(), limit), Err(Stopped::Limit));
    assert_eq!(*count.borrow(), 10);
    assert!(sim.run_until(Duration::from_millis(1), Duration::from_secs(1), || *count.borrow() == 20));
    sim.crash();
    sim.run_for(Duration::from_secs(1));
    assert_eq!(*count.borrow(), 20, "tasks die in a crash");
}

/// Several tasks that write, sync and sleep; returns the interleaving they saw.
async fn busy(env: SimEnv) -> Vec<u64> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let (done_tx, mut done_rx) = mailbox::mailbox(16);
    for id in 0..5u64 {
        let (task_env, log, done) = (env.clone(), Rc::clone(&log), done_tx.clone());
        env.spawn(TaskQueue::Serve, async move {
            let path = format!("/f{id}");
            let file = task_env
                .open(Path::new(&path), OpenOptions::direct(OpenMode::CreateNew))
                .await
                .expect("the disk is empty");
            for step in 0..20u64 {
                let mut buf = AlignedBuf::zeroed(4096);
                buf.as_mut_slice()[..8].copy_from_slice(&task_env.random_u64().to_le_bytes());
                file.write_durable(step * 4096, buf).await.0.expect("no faults are set");
                log.borrow_mut().push(id);
            }
            done.send(()).expect("one message a task");
        });
    }
    for _ in 0..5 {
        while done_rx.take().is_none() {
            done_rx.ready().await;
        }
    }
    log.take()
}

#[test]
fn same_seed_same_run_and_another_seed_another() {
    let run = |seed| {
        let sim = Sim::new(seed, SimOptions::default());
        let order = sim.block_on(busy(sim.env()));
        sim.crash();
        (order, sim.trace_hash(), sim.elapsed(), sim.read_file(Path::new("/f0")))
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).0, run(seed + 1).0, "seed {seed}");
        assert_ne!(run(seed).1, run(seed + 1).1, "seed {seed}");
    }
}
