//! From SIGKILL under load to the first linearizable range that is answered, the page cache empty.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Figures, Part, aim::Aim, drop_page_cache};
use crate::{
    failure::Failure,
    load::{self, Clients, Op, Plan},
    stats::median,
};

const SECONDS_MAX: f64 = 1.0;
/// The load that the server dies under.
const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
/// The load goes on for longer than anybody waits for the kill.
const LOAD_MAX: Duration = Duration::from_secs(3600);

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let large = figures.filled_large()?;
    let lab = &figures.lab;
    let mut seconds = Vec::new();
    for turn in 0..lab.method.turns {
        eprintln!("restart: turn {} of {}", turn + 1, lab.method.turns);
        let mut server = lab.plinth.start(&large, &[lab.server_core])?;
        server.wait_until_ready()?;
        let plan = Plan { shape: figures.large, warmup: LOAD_MAX, ..lab.plan(&server, Op::Put, CLIENTS) };
        thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan));
            thread::sleep(lab.method.measured);
            server.kill();
            // It says that the server went away.
            let outcome = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(outcome.is_err(), "a load on a dead server ends");
        });
        drop_page_cache()?;
        let start = Instant::now();
        let mut server = lab.plinth.start(&large, &[lab.server_core])?;
        server.wait_until_ready()?;
        seconds.push(start.elapsed().as_secs_f64());
        server.stop()?;
    }
    let middle = median(&seconds).unwrap_or(f64::NAN);
    let all: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.3}")).collect();
    let text = format!(
        "{} keys of {} bytes, SIGKILL after {} s of puts ({CLIENTS}), page cache emptied: the first linearizable range is answered after {} s\n",
        figures.large.keys,
        figures.large.value_bytes,
        lab.method.measured.as_secs_f64(),
        all.join(", ")
    );
    let aims = vec![Aim::at_most("start after SIGKILL until the first linearizable range, s", SECONDS_MAX, middle)];
    Ok(Part { text, json: json!({ "seconds": seconds }), aims })
}
