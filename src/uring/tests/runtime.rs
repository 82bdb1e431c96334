//! Executors as a program sees them: how they start, end, are pinned, counted, and stopped by a signal.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use plinth_env::{Env, TaskQueue};
use plinth_uring::{
    ExecutorContext, Runtime,
    cores::Available,
    run, run_on,
    signals::{SignalThread, StopSignal},
};

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

#[test]
fn a_busy_background_task_that_yields_does_not_stop_the_consensus_queue() {
    run(&cores()[..1], |context: ExecutorContext| async move {
        let env = context.env;
        let over = std::rc::Rc::new(std::cell::Cell::new(false));
        let (spinner, spinning) = (env.clone(), std::rc::Rc::clone(&over));
        env.spawn(TaskQueue::Background, async move {
            while !spinning.get() {
                spinner.yield_now().await;
            }
        });
        let (ticker, done) = (env.clone(), std::rc::Rc::clone(&over));
        env.spawn(TaskQueue::Consensus, async move {
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
