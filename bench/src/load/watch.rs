//! Puts with watchers beside them. Each watcher watches one key from the start on, and must see each acknowledged put of it exactly once, in order:
//! a run in which one doesn't is an error and no figure.
//!
//! Puts and watchers share the load's thread. A value begins with the time it was sent, so the latency of an event is from sending the put to
//! having read the event, on one clock.

mod board;
mod client;

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use plinth_base::Prng;
use tokio::time::sleep;

use self::board::Board;
use super::{
    Op, Outcome, Plan,
    keys::{Keys, Uniform},
    session::Session,
    thread::on_own_thread,
};
use crate::{failure::Failure, histogram::Latencies};

/// Nothing arrives for so long: what is missing is lost.
const STALL_MAX: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// When every event is there: in this time one too many would come.
const SURPLUS_WAIT: Duration = Duration::from_millis(200);

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watchers {
    /// How many, each on a key of its own, spread evenly over all keys; ten on a stream, the streams on eight connections.
    pub count: u64,
    /// Whether only keys are put that are watched.
    pub puts_hit_always: bool,
}

/// What a run with watchers gave.
#[derive(Clone, Debug)]
pub struct WatchOutcome {
    /// The puts.
    pub puts: Outcome,
    /// From sending a put to having read its event, of the events that came while puts were measured.
    pub events: Latencies,
}

/// Runs a plan of puts with watchers.
///
/// # Errors
/// As [`super::run`]; if a put fails, if a watcher loses an event, or sees one twice or out of order.
pub fn run_watched(plan: &Plan, watchers: Watchers) -> Result<WatchOutcome, Failure> {
    assert_eq!(plan.op, Op::Put, "events come of puts");
    if watchers.count > plan.shape.keys || (watchers.count == 0 && watchers.puts_hit_always) {
        let text = format!("{} watchers with a key each, and {} keys", watchers.count, plan.shape.keys);
        return Err(Failure::Usage(text));
    }
    on_own_thread(plan.core, || run_here(plan.clone(), watchers))
}

async fn run_here(plan: Plan, watchers: Watchers) -> Result<WatchOutcome, Failure> {
    let board = Rc::new(Board::new(plan.shape, watchers.count, Instant::now()));
    client::open(plan.endpoint, &board).await?;
    wait_for(&board, "watchers are created", || board.created() == watchers.count).await?;

    let session = Session::connect(plan.clone()).await?;
    let is_over = Rc::new(Cell::new(false));
    let (keys, stride) = if watchers.puts_hit_always { (watchers.count, board.stride()) } else { (plan.shape.keys, 1) };
    let mut prng = Prng::new(plan.seed);
    let requests = session.requests().stamped(board.epoch(), plan.shape);
    let streams = session.start(requests, || Noted {
        keys: Uniform::new(prng.fork(), keys, stride, plan.pause),
        board: Rc::clone(&board),
        is_over: Rc::clone(&is_over),
    });
    session.wait(plan.warmup).await?;
    board.begin();
    let (puts, ()) = session.measure(session.wait(plan.measured)).await?;
    let events = board.end();
    puts.expect_no_errors()?;

    is_over.set(true);
    for stream in streams {
        stream.await.map_err(|error| Failure::Trouble(format!("a stream of puts: {error}")))?;
    }
    wait_for(&board, "events arrive", || board.delivered() >= board.expected()).await?;
    sleep(SURPLUS_WAIT).await;
    board.verify().map_err(Failure::Trouble)?;
    Ok(WatchOutcome { puts, events })
}

/// Waits until `is_done`, as long as the board goes on changing.
async fn wait_for(board: &Board, what: &str, is_done: impl Fn() -> bool) -> Result<(), Failure> {
    let (mut seen, mut changed) = (0, Instant::now());
    while !is_done() {
        sleep(POLL).await;
        board.expect_sound().map_err(Failure::Trouble)?;
        let now = board.created() + board.delivered();
        if now > seen {
            (seen, changed) = (now, Instant::now());
        } else if changed.elapsed() > STALL_MAX {
            let text = format!(
                "waiting until {what}: nothing for {STALL_MAX:?}; {} watchers, {} of {} events",
                board.created(),
                board.delivered(),
                board.expected()
            );
            return Err(Failure::Trouble(text));
        }
    }
    Ok(())
}

/// Keys until it is over, each acknowledged put noted.
struct Noted {
    keys: Uniform,
    board: Rc<Board>,
    is_over: Rc<Cell<bool>>,
}

impl Keys for Noted {
    async fn next(&mut self) -> Option<u64> {
        if self.is_over.get() { None } else { self.keys.next().await }
    }

    fn succeeded(&mut self, key: u64) {
        self.board.acknowledged(key);
    }
}
