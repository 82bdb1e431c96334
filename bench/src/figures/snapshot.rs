//! What a snapshot of a large database costs those who put meanwhile, and the server's memory.

use std::path::Path;

use plinth_rpc::etcdserverpb::SnapshotRequest;

use super::{
    Figures, Part,
    aim::Aim,
    beside::{CLIENTS, Puts, add_pair},
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Pace},
    memory::growth_during,
    server::{Kind, Program},
};

const PATH: &str = "/etcdserverpb.Maintenance/Snapshot";
const GROWTH_MIB_MAX: f64 = 16.0;
const GROWTH: &str = "memory growth, no puts, MiB";
const GIVEN_UP: &str = "snapshots given up beside puts";
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    figures.filled_large_pair()?;
    let lab = &figures.lab;
    let large = figures.filled_large_pair.as_ref().expect("it was just filled");
    let table = in_turns(lab, "snapshot", |program| measure(lab, program, large.of(program.kind)))?;
    let text = format!(
        "{} keys of {} bytes, a snapshot read as fast as it comes. Puts {CLIENTS} of {} bytes over {} keys, counted from the call to its end:\n\n{}",
        figures.large.keys,
        figures.large.value_bytes,
        lab.method.shape.value_bytes,
        lab.method.shape.keys,
        table.to_text()
    );
    let aims = vec![
        Aim::at_most("snapshots that the server gives up beside puts", 0.0, table.largest(Kind::Plinth, GIVEN_UP)),
        Aim::at_most("snapshot: memory growth of the server, MiB", GROWTH_MIB_MAX, table.median(Kind::Plinth, GROWTH)),
    ];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, large: &Path) -> Result<Sheet, Failure> {
    let puts = Puts { lab, program, filled: large, shape: lab.method.shape, pace: Pace::Closed };
    let mut sheet = beside_puts(&puts)?;
    // Puts have memory of their own: what the snapshot takes shows only without them.
    let server = lab.start_in_place(program, large)?;
    let once = || load::call_timed(server.endpoint(), lab.load_core, PATH, &SnapshotRequest {});
    let ((bytes, took), growth) = growth_during(server.pid(), once)?;
    let (_, again) = growth_during(server.pid(), once)?;
    server.stop()?;
    sheet.add("snapshot, no puts, MiB/s", 0, bytes as f64 / MIB / took.as_secs_f64());
    sheet.add(GROWTH, 1, growth);
    sheet.add("memory growth of a second one, MiB", 1, again);
    Ok(sheet)
}

/// Puts without a snapshot, and beside one that is read as fast as it comes.
pub fn beside_puts(puts: &Puts<'_>) -> Result<Sheet, Failure> {
    let without = puts.without(&[])?;
    let (beside, given) = puts.beside(&[], |server| {
        load::give_way();
        // A server may give a snapshot up: that is a result, and no reason to lose the others.
        Ok(load::call_once(server.endpoint(), PATH, &SnapshotRequest {}))
    })?;
    let mut sheet = Sheet::default();
    add_pair(&mut sheet, &without, &beside);
    if let Err(why) = &given {
        println!("given up after {:.1} s: {why}\n", beside.elapsed.as_secs_f64());
    }
    sheet.add(GIVEN_UP, 0, f64::from(u8::from(given.is_err())));
    let mib = given.map_or(f64::NAN, |bytes| bytes as f64 / MIB);
    sheet.add("snapshot beside puts, MiB", 0, mib);
    sheet.add("snapshot beside puts, MiB/s", 0, mib / beside.elapsed.as_secs_f64());
    Ok(sheet)
}
