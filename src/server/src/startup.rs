//! From the process's arguments and environment to something to do, and from a failure to the line and code it ends
//! with.

use std::ffi::OsString;

use plinth_base::log::{self, Level, Record, Value};

use crate::{
    config::{self, Config},
    flags::{self, Invocation},
    log::Notice,
    start_error::StartError,
    version,
};

/// What the process is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Print this to standard output and exit with 0.
    Print(String),
    /// Start a node, and log the notices once there is a log.
    Run(Box<Config>, Vec<Notice>),
}

/// Reads the arguments (without the program's name) and the environment.
pub fn action(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Action, StartError> {
    let args = args.into_iter().map(argument).collect::<Result<Vec<_>, _>>()?;
    let env = env.into_iter().filter_map(variable).collect::<Result<Vec<_>, _>>()?;
    Ok(match flags::parse(&args, &env)? {
        Invocation::Help => Action::Print(flags::help()),
        Invocation::Version => Action::Print(version::text()),
        Invocation::Run(settings) => {
            let (config, notices) = config::from_settings(&settings)?;
            Action::Run(Box::new(config), notices)
        }
    })
}

/// Says why the process ends: through the log where there is one, else as a plain line. Gives the exit code.
pub fn report(error: &StartError) -> u8 {
    if log::enabled(Level::Fatal) {
        let text = error.to_string();
        let fields = [("error", Value::Str(&text))];
        log::write(&Record { level: Level::Fatal, file: file!(), line: line!(), msg: "cannot start", fields: &fields });
    } else {
        eprintln!("plinth: {error}");
    }
    error.exit_code()
}

fn argument(word: OsString) -> Result<String, StartError> {
    word.into_string().map_err(|word| {
        StartError::usage(format!("\"{}\" is not UTF-8: write it so that it is", word.to_string_lossy()))
    })
}

/// A variable of plinth's; none for others, whatever they hold.
fn variable((name, value): (OsString, OsString)) -> Option<Result<(String, String), StartError>> {
    let name = name.into_string().ok().filter(|name| name.starts_with("ETCD_"))?;
    Some(match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(StartError::usage(format!("the variable {name} is not UTF-8: write it so that it is"))),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Action, StartError> {
        action(args.iter().map(OsString::from), env.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn version_and_help_are_printed() {
        let Ok(Action::Print(version)) = run(&["--version"], &[]) else { panic!("--version prints") };
        assert!(version.starts_with("etcd Version: "));
        let Ok(Action::Print(help)) = run(&["-h"], &[]) else { panic!("-h prints") };
        assert!(help.contains("--listen-client-urls"));
    }

    #[test]
    fn an_empty_environment_and_no_arguments_start_the_default_node() {
        let Ok(Action::Run(config, notices)) = run(&[], &[]) else { panic!("defaults start a node") };
        assert_eq!((config.name.as_str(), notices.len()), ("default", 0));
    }

    #[test]
    fn variables_reach_the_configuration() {
        let Ok(Action::Run(config, notices)) = run(&[], &[("ETCD_NAME", "n1")]) else { panic!("starts a node") };
        assert_eq!((config.name.as_str(), notices.len()), ("n1", 1));
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error_only_where_it_is_ours() {
        let broken = || OsString::from_vec(vec![b'x', 0xff]);
        assert_eq!(action([broken()], []).expect_err("an argument").exit_code(), 2);
        assert!(action([], [("ETCD_NAME".into(), broken())]).is_err());
        assert!(action([], [("PATH".into(), broken()), (broken(), "x".into())]).is_ok());
    }
}
