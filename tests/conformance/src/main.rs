//! `plinth-conformance [--against plinth|etcd|PROGRAM] [PART OF THE NAME OF A CASE OR ITS FILE]`

use std::{path::Path, process::ExitCode};

use plinth_conformance::{Schema, Summary, Target, load_cases, run};

const USAGE: &str =
    "usage: plinth-conformance [--against plinth|etcd|PROGRAM] [PART OF THE NAME OF A CASE OR ITS FILE]";

fn main() -> ExitCode {
    match try_main() {
        Ok(Summary { passed, failed }) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<Summary, String> {
    let (mut against, mut filter) = ("plinth".to_owned(), String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--against" => against = args.next().ok_or(USAGE)?,
            flag if flag.starts_with('-') => return Err(USAGE.to_owned()),
            _ => filter = arg,
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).ok_or("the workspace lies two folders up")?;
    let schema = Schema::load(&root.join("src/rpc/proto"))?;
    let mut cases = load_cases(&here.join("cases"))?;
    cases.retain(|case| case.name.contains(&filter) || case.place.contains(&filter));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(run(&Target::named(&against, root), &cases, &schema, &root.join("target/peers")))
}
