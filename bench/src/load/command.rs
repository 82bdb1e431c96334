//! `plinth-bench load` as a command.

use std::path::Path;

use serde_json::Value;

use super::{
    Outcome, Told, fill,
    options::{self, USAGE},
    run, text_of,
};
use crate::{
    args::Args,
    facts::Facts,
    failure::Failure,
    results::{self, Document},
};

/// `plinth-bench load`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = options::parse(args)?;
    if let Some(path) = &options.json {
        results::expect_writable(path)?;
    }
    if options.fill {
        let took = fill(&options.plan)?;
        println!("filled {} keys in {:.1} s", options.plan.shape.keys, took.as_secs_f64());
    }
    if options.plan.measured.is_zero() {
        return Ok(());
    }
    let document = document(&run(&options.plan)?);
    print!("{}", text_of(&document)?);
    options.json.map_or(Ok(()), |path| results::write(&path, &document))
}

/// The results of a run, with the machine as the load knows it: the disk is that of the server's data, if it was told.
fn document(outcome: &Outcome) -> Document {
    let watched = outcome.plan.watched.first().and_then(|watched| watched.data_dir.as_deref());
    let facts = Facts::look(watched.unwrap_or(Path::new(".")));
    let machine = results::Machine { text: facts.to_text(), facts: facts.to_json() };
    Document::new("load", machine, Vec::new(), Value::Null, results::encode(&Told::of(outcome)))
}
