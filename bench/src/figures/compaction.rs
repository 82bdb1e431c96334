//! What a compaction costs those who put meanwhile.

use super::{
    Figures, Part,
    aim::Aim,
    beside::{CLIENTS, P99, Puts, add_pair},
    table::{Sheet, in_turns},
};
use crate::{
    failure::Failure,
    lab::Filled,
    load::Pace,
    server::{Kind, Server},
};

/// The p99 of puts in parts of that without a compaction.
const P99_MAX: f64 = 1.5;

/// Keys that were written over and over.
pub struct History {
    pub filled: Filled,
    pub rounds: u64,
    /// Versions that a compaction at the last revision removes.
    pub superseded: u64,
    /// The last one.
    pub revision: i64,
}

impl History {
    pub fn new(figures: &Figures) -> Result<Self, Failure> {
        let lab = &figures.lab;
        let keys = lab.method.shape.keys;
        // The first round supersedes nothing.
        let rounds = figures.revisions.div_ceil(keys) + 1;
        let filled = Filled::in_rounds(lab, "-history", lab.method.shape, rounds)?;
        // An empty server is at revision 1, and every put makes one more.
        let revision = i64::try_from(1 + rounds * keys).expect("nobody writes so much");
        Ok(Self { filled, rounds, superseded: (rounds - 1) * keys, revision })
    }

    /// Compacts all of it, and waits until that is done.
    pub fn compact(&self, server: &Server) -> Result<(), Failure> {
        server.compact(self.revision)
    }
}

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let history = History::new(figures)?;
    let lab = &figures.lab;
    let shape = lab.method.shape;
    let table = in_turns(lab, "compaction", |program| {
        let filled = history.filled.of(program.kind);
        measure(&Puts { lab, program, filled, shape, pace: Pace::Closed }, &history)
    })?;
    let text = format!(
        "{} keys, each written {} times; a physical compaction at the last of these revisions removes {} versions. \
         Puts {CLIENTS}, counted from the call to its answer:\n\n{}",
        shape.keys,
        history.rounds,
        history.superseded,
        table.to_text()
    );
    let what = "put p99 while versions are compacted, in parts of that without";
    let aims = vec![Aim::at_most(what, P99_MAX, table.median(Kind::Plinth, P99))];
    Ok(Part { text, json: table.to_json(), aims })
}

pub fn measure(puts: &Puts<'_>, history: &History) -> Result<Sheet, Failure> {
    let without = puts.without(&[])?;
    let (beside, ()) = puts.beside(&[], |server| history.compact(server))?;
    let mut sheet = Sheet::default();
    add_pair(&mut sheet, &without, &beside);
    let seconds = beside.elapsed.as_secs_f64();
    sheet.add("compaction, s", 2, seconds);
    sheet.add("versions removed per second", 0, history.superseded as f64 / seconds);
    Ok(sheet)
}
