//! What a compaction costs those who put meanwhile.

use plinth_rpc::etcdserverpb::CompactionRequest;

use super::{
    Figures, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::{Filled, Lab},
    load::{self, Clients, Op, Outcome},
    server::{Kind, Program},
};

const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
/// The p99 of puts in parts of that without a compaction.
const P99_MAX: f64 = 1.5;
const P99: &str = "put p99, in parts of that without";

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let keys = lab.method.shape.keys;
    // The first round supersedes nothing.
    let rounds = figures.revisions.div_ceil(keys) + 1;
    let filled = Filled::in_rounds(lab, "-history", lab.method.shape, rounds)?;
    let superseded = (rounds - 1) * keys;
    let table = in_turns(lab, "compaction", |program| measure(lab, program, &filled, superseded))?;
    let text = format!(
        "{keys} keys, each written {rounds} times; a physical compaction at the last of these revisions removes {superseded} versions. \
         Puts {CLIENTS}, counted from the call to its answer:\n\n{}",
        table.to_text()
    );
    let what = "put p99 while versions are compacted, in parts of that without";
    let aims = vec![Aim::at_most(what, P99_MAX, table.median(Kind::Plinth, P99))];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, filled: &Filled, superseded: u64) -> Result<Sheet, Failure> {
    let history = filled.of(program.kind);
    let without = lab.turn(program, history, Op::Put, CLIENTS)?;
    let beside = lab.undisturbed(
        |puts: &Outcome| puts.disturbance,
        || {
            let server = lab.start_on_copy(program, history, &[lab.server_core])?;
            // Before the load adds to it.
            let request = CompactionRequest { revision: server.status()?.revision, physical: true };
            let endpoint = server.endpoint();
            let plan = lab.plan(&server, Op::Put, CLIENTS);
            let compact = || load::call_once(endpoint, "/etcdserverpb.KV/Compact", &request);
            let (puts, _) = load::run_during(&plan, compact)?;
            server.stop()?;
            puts.expect_no_errors()?;
            Ok(puts)
        },
    )?;
    let mut sheet = Sheet::default();
    sheet.add_puts(", without", &without);
    sheet.add_puts(", beside it", &beside);
    let p99 = |puts: &Outcome| puts.latencies.quantile_us(0.99).unwrap_or(f64::NAN);
    sheet.add(P99, 2, p99(&beside) / p99(&without));
    let seconds = beside.elapsed.as_secs_f64();
    sheet.add("compaction, s", 2, seconds);
    sheet.add("versions removed per second", 0, superseded as f64 / seconds);
    Ok(sheet)
}
