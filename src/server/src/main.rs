//! The `plinth` binary: a drop-in replacement for the etcd server.

use std::process::ExitCode;

use plinth_server::{run, startup};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let action = startup::action(std::env::args_os().skip(1), std::env::vars_os());
    let outcome = match action {
        Ok(startup::Action::Print(text)) => {
            print!("{text}");
            Ok(0)
        }
        Ok(startup::Action::Run(config, notices)) => run::run(*config, &notices),
        Err(error) => Err(error),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| startup::report(&error)))
}
