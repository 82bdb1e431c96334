//! How large the database stays while it is written over and compacted, without Defragment.

use std::thread;

use super::{
    Figures, LIST_VALUE_BYTES, Part,
    aim::Aim,
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Lab,
    load::Shape,
    server::{Kind, Program},
};

const ROUNDS: usize = 10;
/// In parts of keys and values.
const SIZE_MAX: f64 = 1.2;
const IN_PARTS: &str = "dbSize in parts of live data";
const MIB: f64 = (1 << 20) as f64;

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let shape = Shape { value_bytes: LIST_VALUE_BYTES, ..lab.method.shape };
    let table = in_turns(lab, "size", |program| measure(lab, program, shape))?;
    let text = format!(
        "{} keys of {} bytes, written over {ROUNDS} times, with a physical compaction after each round:\n\n{}",
        shape.keys,
        shape.value_bytes,
        table.to_text()
    );
    let aims = vec![Aim::at_most(IN_PARTS, SIZE_MAX, table.median(Kind::Plinth, IN_PARTS))];
    Ok(Part { text, json: table.to_json(), aims })
}

fn measure(lab: &Lab, program: &Program, shape: Shape) -> Result<Sheet, Failure> {
    let mut server = program.start(&lab.path("size")?, &[lab.server_core])?;
    server.wait_until_ready()?;
    lab.write_all(&server, shape)?;
    let first = server.status()?;
    let mut largest = first.db_size;
    for _ in 0..ROUNDS {
        lab.write_all(&server, shape)?;
        server.compact(server.status()?.revision)?;
        largest = largest.max(server.status()?.db_size);
    }
    let after = server.status()?;
    thread::sleep(lab.method.measured);
    let later = server.status()?;
    server.stop()?;
    let live = shape.keys * (shape.key_bytes + shape.value_bytes) as u64;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let mut sheet = Sheet::default();
    sheet.add("live data, MiB", 1, mib(live));
    sheet.add("dbSize after the filling, MiB", 1, mib(first.db_size));
    sheet.add("largest dbSize after a round, MiB", 1, mib(largest));
    sheet.add("dbSize at the end, MiB", 1, mib(after.db_size));
    sheet.add("dbSizeInUse at the end, MiB", 1, mib(after.db_size_in_use));
    let seconds = lab.method.measured.as_secs_f64();
    sheet.add(format!("dbSize {seconds} s later, MiB"), 1, mib(later.db_size));
    sheet.add(format!("dbSizeInUse {seconds} s later, MiB"), 1, mib(later.db_size_in_use));
    sheet.add(IN_PARTS, 3, after.db_size as f64 / live as f64);
    sheet.add(format!("{IN_PARTS}, {seconds} s later"), 3, later.db_size as f64 / live as f64);
    Ok(sheet)
}
