//! `plinth-bench show`: a results file as the tables that its command printed when it made it.

use std::path::PathBuf;

use crate::{
    args::Args,
    failure::Failure,
    figures, fsync, load, probe,
    results::{self, Document},
    versus,
};

/// Makes a command's whole text of its document.
type Print = fn(&Document) -> Result<String, Failure>;

/// Every command whose results can be shown: each prints by this very function when it makes them.
const COMMANDS: [(&str, Print); 5] = [
    ("figures", figures::text_of),
    ("fsync", fsync::text_of),
    ("load", load::text_of),
    ("probe", probe::text_of),
    ("versus", versus::text_of),
];

const USAGE: &str = "\
usage: plinth-bench show FILE
  prints a results file as its command did; `--json FILE` of a command makes one";

/// `plinth-bench show`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let files = args.words();
    args.finish()?;
    let [file] = files.as_slice() else {
        return Err(Failure::Usage(format!("show takes one file\n{USAGE}")));
    };
    let document = results::read(&PathBuf::from(file))?;
    println!("plinth-bench {} {}, {}", document.plinth_bench, document.command, document.made);
    print!("{}", text(&document)?);
    Ok(())
}

fn text(document: &Document) -> Result<String, Failure> {
    let Some((_, print)) = COMMANDS.iter().find(|(name, _)| *name == document.command) else {
        let known = COMMANDS.map(|(name, _)| name).join(", ");
        let text = format!("these are results of {:?}, and show prints those of {known}", document.command);
        return Err(Failure::Trouble(text));
    };
    print(document)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::results::Machine;

    fn document(command: &str, results: Value) -> Document {
        let machine = Machine { text: "two cores".to_owned(), facts: Value::Null };
        Document::new(command, machine, Vec::new(), Value::Null, results)
    }

    #[test]
    fn a_command_that_nobody_knows_is_named() {
        let refused = text(&document("gate", Value::Null)).expect_err("there is no such command").to_string();
        assert_eq!(
            refused,
            "these are results of \"gate\", and show prints those of figures, fsync, load, probe, versus"
        );
    }

    #[test]
    fn results_that_are_not_the_commands_own_are_refused() {
        for (command, _) in COMMANDS {
            let refused = text(&document(command, json!(["something else"]))).expect_err("no such results");
            assert!(refused.to_string().ends_with(": make them again"), "{refused}");
        }
    }
}
