//! How a comparison was made, as results files keep it and tables are headed with.

use serde::{Deserialize, Serialize};

use super::Lab;
use crate::{
    failure::Failure,
    load::Shape,
    results::{self, Document},
};

/// A document's `method`.
#[derive(Debug, Serialize, Deserialize)]
pub struct MethodFacts {
    server_core: usize,
    load_core: usize,
    warmup_seconds: f64,
    seconds: f64,
    turns: usize,
    repeats_max: usize,
    seed: u64,
    /// Unless each result has its own.
    shape: Option<ShapeFacts>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShapeFacts {
    keys: u64,
    key_bytes: usize,
    value_bytes: usize,
}

impl MethodFacts {
    /// As `lab` does it, with keys and values of `shape`.
    pub fn of(lab: &Lab, shape: Option<Shape>) -> Self {
        Self {
            server_core: lab.server_core,
            load_core: lab.load_core,
            warmup_seconds: lab.method.warmup.as_secs_f64(),
            seconds: lab.method.measured.as_secs_f64(),
            turns: lab.method.turns,
            repeats_max: lab.method.repeats_max,
            seed: lab.method.seed,
            shape: shape.map(|Shape { keys, key_bytes, value_bytes }| ShapeFacts { keys, key_bytes, value_bytes }),
        }
    }
}

/// Machine, programs and method on a few lines.
pub fn head(document: &Document) -> Result<String, Failure> {
    let method: MethodFacts = results::decode(&document.method, "results")?;
    let programs: Vec<String> = document
        .programs
        .iter()
        .map(|program| {
            if program.version.starts_with(&program.name) {
                program.version.clone()
            } else {
                format!("{}: {}", program.name, program.version)
            }
        })
        .collect();
    let mut text = format!(
        "{}\n{}; server on core {}, load on core {}; {} s after {} s of warm-up, {} turns each\n",
        document.machine.text,
        programs.join(" and "),
        method.server_core,
        method.load_core,
        method.seconds,
        method.warmup_seconds,
        method.turns
    );
    if let Some(ShapeFacts { keys, key_bytes, value_bytes }) = method.shape {
        text += &format!("keys of {key_bytes} bytes, values of {value_bytes}, uniform over {keys} keys\n");
    }
    Ok(text)
}
