//! Executors as a program sees them: how they start, end, are pinned, counted, and stopped by a signal.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use plinth_env::{Env, TaskQueue};
use plinth_uring::{
    ExecutorContext, Runtime,
    cores::Available,
    run, run_on,
    signals::{SignalThread, StopSignal},
};

const RUNTIMES: [Runtime; 2] = [Runtime::Own, Runtime::Glommio];

fn cores() -> Vec<usize> {
    let mut affinity = Available::of_this_process().expect("affinity").affinity;
    affinity.truncate(2);
    affinity
}

#[test]
fn every_executor_runs_main_on_its_own_core_and_run_waits_for_all() {
    let cores = cores();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let out = Arc::clone(&seen);
    let ended = Arc::new(AtomicUsize::new(0));
    let ending = Arc::clone(&ended);
    run(&cores, move |context: ExecutorContext| {
        let (seen, ended) = (Arc::clone(&out), Arc::clone(&ending));
        async move {
            context.env.sleep(Duration::from_millis(1 + 20 * context.index as u64)).await;
            let mine = Available::of_this_process().expect("affinity").affinity;
            seen.lock().expect("no panic under it").push((context.index, context.core, mine));
            assert_eq!(context.counters.len(), context.executors);
            ended.fetch_add(1, Ordering::Relaxed);
        }
    })
    .expect("the runtime starts");
    assert_eq!(ended.load(Ordering::Relaxed), cores.len());
    let mut seen = seen.lock().expect("no panic under it").clone();
    seen.sort();
    let expected: Vec<_> = cores.iter().enumerate().map(|(index, core)| (index, *core, vec![*core])).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_permanent_timer_of_glommio_ticks_faster_while_requests_are_in_flight() {
    run_on(Runtime::Glommio, &cores()[..1], |context: ExecutorContext| async move {
        let env = context.env;
        let ticks = || context.counters[0].heartbeat_ticks.get();
        env.sleep(Duration::from_millis(200)).await;
        let start = ticks();
        env.sleep(Duration::from_millis(300)).await;
        let idle = ticks() - start;
        let request = env.in_flight();
        let start = ticks();
        env.sleep(Duration::from_millis(300)).await;
        let busy = ticks() - start;
        drop(request);
        assert!((1..=31).contains(&idle), "{idle} ticks in 300 ms");
        assert!(busy >= idle, "{busy} ticks while busy, {idle} while idle");
    })
    .expect("the runtime starts");
}

/// One task in each of two queues: a busy one that yields until the other one has seen some timers.
fn spin_beside(runtime: Runtime, busy: TaskQueue, other: TaskQueue) {
    run_on(runtime, &cores()[..1], move |context: ExecutorContext| async move {
        let env = context.env;
        let over = Rc::new(Cell::new(false));
        let (spinner, spinning) = (env.clone(), Rc::clone(&over));
        env.spawn(busy, async move {
            while !spinning.get() {
                spinner.yield_now().await;
            }
        });
        let (ticker, done) = (env.clone(), Rc::clone(&over));
        env.spawn(other, async move {
            for _ in 0..20 {
                ticker.sleep(Duration::from_millis(1)).await;
            }
            done.set(true);
        });
        while !over.get() {
            env.sleep(Duration::from_millis(1)).await;
        }
    })
    .expect("the runtime starts");
}

#[test]
fn a_busy_task_that_yields_stops_no_other_queue() {
    for runtime in RUNTIMES {
        spin_beside(runtime, TaskQueue::Background, TaskQueue::Consensus);
        spin_beside(runtime, TaskQueue::Serve, TaskQueue::Background);
        spin_beside(runtime, TaskQueue::Serve, TaskQueue::Consensus);
        spin_beside(runtime, TaskQueue::Consensus, TaskQueue::Serve);
        spin_beside(runtime, TaskQueue::Consensus, TaskQueue::Background);
    }
}

#[test]
fn timers_end_in_their_order_and_dropped_ones_are_gone() {
    for runtime in RUNTIMES {
        run_on(runtime, &cores()[..1], |context: ExecutorContext| async move {
            let env = context.env;
            let order = Rc::new(RefCell::new(Vec::new()));
            for ms in [30u64, 10, 20, 0] {
                let (env_of_task, order) = (env.clone(), Rc::clone(&order));
                env.spawn(TaskQueue::Serve, async move {
                    env_of_task.sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                });
            }
            // A timer that was armed and dropped wakes nobody.
            let mut dropped = Box::pin(env.sleep(Duration::from_millis(5)));
            let was_ready = poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx).is_ready())).await;
            assert!(!was_ready);
            drop(dropped);
            let start = env.now();
            env.sleep(Duration::from_millis(60)).await;
            assert!(env.now().since(start) >= Duration::from_millis(60), "a timer is never early");
            assert_eq!(*order.borrow(), [0, 10, 20, 30]);
        })
        .expect("the runtime starts");
    }
}

#[test]
fn sigterm_reaches_the_task_that_waits_for_it() {
    let (_thread, signals) = SignalThread::start().expect("handlers are installed");
    let signals = Arc::new(Mutex::new(Some(signals)));
    run(&cores()[..1], move |context: ExecutorContext| {
        let mut signals = signals.lock().expect("no panic under it").take().expect("one executor");
        async move {
            let env = context.env.clone();
            env.spawn(TaskQueue::Background, async {
                signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("raised");
            });
            signals.ready().await;
            let signal = signals.take().expect("ready says so");
            assert_eq!(signal, StopSignal::Terminate);
            assert_eq!(signal.exit_code(), 143);
        }
    })
    .expect("the runtime starts");
}
