use super::*;

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Instant {
    Instant(ms * MS)
}

/// Flushes of `flush_ns` each millisecond of `range`, and what somebody takes beside each; the sum of the waits.
fn run(budget: &Budget, range: std::ops::Range<u64>, flush_ns: u64, takes: &[(Use, u64)]) -> Vec<Duration> {
    let mut waits = vec![Duration::ZERO; takes.len()];
    for ms in range {
        budget.note_flush(at(ms), flush_ns, 4096);
        for ((what, bytes), wait) in takes.iter().zip(&mut waits) {
            *wait = budget.take(at(ms), *what, *bytes);
        }
    }
    waits
}

#[test]
fn an_idle_log_makes_nobody_wait() {
    let budget = Budget::default();
    assert_eq!(budget.take(at(1000), Use::Checkpoint, 1 << 40), Duration::ZERO);
    run(&budget, 1000..1100, MS, &[]);
    assert_ne!(budget.take(at(1100), Use::Checkpoint, 64 << 20), Duration::ZERO);
    assert_eq!(budget.take(at(1200), Use::Scrub, 1 << 40), Duration::ZERO);
}

#[test]
fn the_rate_shrinks_while_flushes_are_slow_and_grows_while_they_are_not_and_somebody_waits() {
    let budget = Budget::default();
    run(&budget, 1000..3000, MS, &[]);
    assert_eq!(budget.rate(), RATE_START, "nobody asked for more");
    run(&budget, 3000..3500, 3 * MS, &[(Use::Checkpoint, 1 << 20)]);
    assert_eq!(budget.rate(), RATE_MIN);
    run(&budget, 3500..5500, MS, &[(Use::Checkpoint, 8 << 20)]);
    assert_eq!(budget.rate(), RATE_MAX);
    run(&budget, 5500..5600, MS, &[]);
    assert_eq!(budget.rate(), RATE_MAX);
}

#[test]
fn what_is_usual_is_what_nobody_disturbed_but_not_for_ever() {
    let budget = Budget::default();
    run(&budget, 1000..3000, MS, &[]);
    run(&budget, 3000..4000, 2 * MS, &[(Use::Snapshot, 1)]);
    assert!(budget.state().usual_ns < MS + MS / 4);
    assert_eq!(budget.rate(), RATE_MIN);
    run(&budget, 4000..40_000, 2 * MS, &[(Use::Snapshot, 1 << 20)]);
    assert!(budget.state().usual_ns > MS + MS * 9 / 10, "the log has become slower by itself");
    assert!(budget.rate() > RATE_MIN);
}

#[test]
fn those_at_work_share_by_weight_and_get_what_others_leave() {
    let budget = Budget::default();
    run(&budget, 1000..2000, MS, &[]);
    // At the whole rate, and but for what was left over.
    let price_ms = |budget: &Budget| 1e3 * f64::from(1 << 20) / budget.rate() as f64;
    let wait_ms = |wait: Duration| wait.as_secs_f64() * 1e3 + 2.0;
    let (price, alone) = (price_ms(&budget), budget.take(at(2000), Use::Scrub, 1 << 20));
    assert!((wait_ms(alone) - price).abs() < 0.1, "{alone:?}");
    run(&budget, 2001..2200, MS, &[]);
    let price = price_ms(&budget);
    let both = run(&budget, 2200..2201, MS, &[(Use::Checkpoint, 1 << 10), (Use::Scrub, 1 << 20)]);
    assert!((wait_ms(both[1]) - 5.0 * price).abs() < 0.1, "a fifth of the rate: {both:?}");
}

#[test]
fn a_wait_has_an_end_and_a_short_one_is_put_off() {
    let budget = Budget::default();
    run(&budget, 1000..2000, MS, &[]);
    assert_eq!(budget.take(at(2000), Use::Scrub, 1 << 40), WAIT_MAX);
    let waits: Vec<Duration> = (0..4).map(|_| budget.take(at(2000), Use::Snapshot, 32 << 10)).collect();
    assert!(waits[0].is_zero() && waits[3] > WAIT_MIN, "{waits:?}");
}

#[test]
fn a_checkpoint_hurries_when_memory_runs_out_and_nobody_else_does() {
    let budget = Budget::default();
    run(&budget, 1000..2000, MS, &[]);
    // In parts of the usual price.
    let part = |ms, what, used| {
        budget.note_memory(used, 800);
        run(&budget, ms..ms + 100, MS, &[]);
        let price = f64::from(8 << 20) / budget.rate() as f64;
        (budget.take(at(ms + 100), what, 8 << 20).as_secs_f64() + 2e-3) / price
    };
    assert!((part(3000, Use::Checkpoint, 200) - 1.0).abs() < 0.01);
    assert!((part(4000, Use::Checkpoint, 300) - 0.5).abs() < 0.01);
    assert!(part(5000, Use::Checkpoint, 400) < 0.05, "no wait");
    assert!((part(6000, Use::Scrub, 400) - 1.0).abs() < 0.01);
}

#[test]
fn what_was_taken_is_counted_by_use() {
    let budget = Budget::default();
    budget.note(at(1), Use::Segment, 7);
    budget.take(at(1), Use::GiveBack, 5);
    run(&budget, 1000..1001, MS, &[(Use::GiveBack, 640 << 20)]);
    let taken: Vec<Taken> = budget.taken().filter(|taken| taken.bytes > 0).collect();
    assert_eq!(taken.len(), 2);
    assert_eq!((taken[0].name, taken[0].bytes, taken[0].waited_ns), ("give-back", (640 << 20) + 5, 500 * MS));
    assert_eq!((taken[1].name, taken[1].bytes, taken[1].waited_ns), ("segment", 7, 0));
}
