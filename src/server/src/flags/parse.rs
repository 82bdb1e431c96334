//! Reads the command line and the environment against the table, in Go's manner.
//!
//! `--x=v`, `--x v`, one dash or two; a bare switch takes no value from the next word; given twice, the last one
//! counts; `--` ends the flags. A variable `ETCD_X` counts where the flag isn't given and the variable isn't empty.

use std::collections::BTreeMap;

use plinth_base::log::Level;

use super::{Flag, Kind, Status, experimental_twin, find, nearest};
use crate::{go_duration, log::Notice, start_error::StartError};

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The command line.
    CommandLine,
    /// A variable `ETCD_*`.
    Environment,
}

/// A value that was given for a flag, checked against the flag's kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The text as given.
    pub value: String,
    /// Where it was given.
    pub source: Source,
}

/// All values that were given; the table has the defaults.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Settings {
    given: BTreeMap<&'static str, Setting>,
    /// What is to be logged once there is a log.
    pub notices: Vec<Notice>,
}

/// What the command line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Invocation {
    /// Start the server.
    Run(Settings),
    /// Print the version.
    Version,
    /// Print the help text.
    Help,
}

/// Reads `args` (without the program's name) and `env`.
pub fn parse(args: &[String], env: &[(String, String)]) -> Result<Invocation, StartError> {
    let mut settings = Settings::default();
    parse_args(args, &mut settings)?;
    if settings.is_true("help") || settings.is_true("h") {
        return Ok(Invocation::Help);
    }
    if settings.is_true("version") {
        return Ok(Invocation::Version);
    }
    parse_env(env, &mut settings)?;
    resolve_twins(&mut settings);
    check_status(&mut settings)?;
    Ok(Invocation::Run(settings))
}

impl Settings {
    /// Whether a flag that is on or off is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        parse_bool(self.get(name)) == Some(true)
    }

    /// The value of a flag: given, or its default. The name must be in the table.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some(setting) => &setting.value,
            None => find(name).expect("only names of the table are asked for").default,
        }
    }

    /// Whether the flag was given at all.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    fn is_true(&self, name: &str) -> bool {
        parse_bool(self.get(name)) == Some(true)
    }
}

fn parse_args(args: &[String], settings: &mut Settings) -> Result<(), StartError> {
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let Some(body) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|body| !body.is_empty())
        else {
            // `--` ends the flags; what follows is as little a flag as a word without a dash.
            return match if word == "--" { words.next() } else { Some(word) } {
                Some(word) => Err(StartError::usage(format!("\"{word}\" is not a valid flag"))),
                None => Ok(()),
            };
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let flag = find(name).ok_or_else(|| unknown_flag(name))?;
        let value = match inline {
            Some(value) => value,
            None if flag.kind.is_bare() => "true",
            None => words.next().ok_or_else(|| StartError::usage(format!("flag needs a value: --{name}")))?,
        };
        check_kind(flag, value, &format!("--{name}"))?;
        settings.given.insert(flag.name, Setting { value: value.to_owned(), source: Source::CommandLine });
    }
    Ok(())
}

fn unknown_flag(name: &str) -> StartError {
    let hint = match nearest(name) {
        Some(near) => format!("did you mean --{near}?"),
        None => "see --help for the flags there are".to_owned(),
    };
    StartError::usage(format!("unknown flag --{name}; {hint}"))
}

/// Variables that belong to etcd's world without being flags.
const ENV_NOT_FLAGS: [&str; 1] = ["ETCD_UNSUPPORTED_ARCH"];

/// Flags that a variable doesn't set: packages export ETCD_VERSION for their own ends.
const FLAGS_WITHOUT_ENV: [&str; 3] = ["version", "help", "h"];

fn parse_env(env: &[(String, String)], settings: &mut Settings) -> Result<(), StartError> {
    let mut env: Vec<_> = env.iter().filter(|(name, _)| name.starts_with("ETCD_")).collect();
    env.sort();
    for (variable, value) in env {
        if ENV_NOT_FLAGS.contains(&variable.as_str()) {
            continue;
        }
        let flag = super::FLAGS.iter().find(|flag| flag.env_name() == *variable);
        let Some(flag) = flag.filter(|flag| !FLAGS_WITHOUT_ENV.contains(&flag.name)) else {
            settings.notice(
                Level::Warn,
                "unrecognized environment variable",
                vec![("environment-variable", variable.clone())],
            );
            continue;
        };
        if value.is_empty() {
            continue;
        }
        if settings.is_given(flag.name) {
            settings.notice(
                Level::Warn,
                "recognized environment variable, but unused: shadowed by corresponding flag",
                vec![("environment-variable", variable.clone()), ("flag", flag.name.to_owned())],
            );
            continue;
        }
        check_kind(flag, value, variable)?;
        let shown = if flag.name.ends_with("password") { "***".to_owned() } else { value.clone() };
        settings.notice(
            Level::Info,
            "recognized and used environment variable",
            vec![("variable-name", variable.clone()), ("variable-value", shown)],
        );
        settings.given.insert(flag.name, Setting { value: value.clone(), source: Source::Environment });
    }
    Ok(())
}

/// `--experimental-x` counts as `--x` where that isn't given itself.
fn resolve_twins(settings: &mut Settings) {
    let names: Vec<&'static str> = settings.given.keys().copied().collect();
    for name in names {
        let Some(twin) = experimental_twin(name) else { continue };
        settings.notice(
            Level::Warn,
            "flag has a new name",
            vec![("flag", name.to_owned()), ("use", twin.name.to_owned())],
        );
        let setting = settings.given.remove(name).expect("the name was just listed");
        settings.given.entry(twin.name).or_insert(setting);
    }
}

/// Refuses what must not be ignored, and notes what has no effect.
fn check_status(settings: &mut Settings) -> Result<(), StartError> {
    let mut notices = Vec::new();
    for (name, setting) in &settings.given {
        let flag = find(name).expect("only flags of the table are kept");
        let fields = |reason: &str| vec![("flag", flag.name.to_owned()), ("reason", reason.to_owned())];
        match flag.status {
            Status::Honoured | Status::Silent => {}
            Status::Refused(reason) if !is_default(flag, &setting.value) => {
                return Err(StartError::failed(format!("--{name} {reason}")));
            }
            Status::Refused(_) => {}
            Status::Ignored(reason) => {
                notices.push(Notice::new(Level::Warn, "flag is accepted but has no effect", fields(reason)));
            }
            Status::Later => {
                notices.push(Notice::new(
                    Level::Warn,
                    "flag is accepted but not honoured yet",
                    fields("not built yet"),
                ));
            }
        }
    }
    settings.notices.extend(notices);
    Ok(())
}

fn is_default(flag: &Flag, value: &str) -> bool {
    value == flag.default || flag.kind == Kind::Bool && parse_bool(value) == parse_bool(flag.default)
}

/// Checks a value against the flag's kind. `given_as` is how the operator named the flag.
fn check_kind(flag: &Flag, value: &str, given_as: &str) -> Result<(), StartError> {
    let expected = match flag.kind {
        Kind::Text | Kind::Relic => return Ok(()),
        Kind::Bool if parse_bool(value).is_some() => return Ok(()),
        Kind::Int if value.parse::<i64>().is_ok() => return Ok(()),
        Kind::Uint if value.parse::<u64>().is_ok() => return Ok(()),
        Kind::Uint32 if value.parse::<u32>().is_ok() => return Ok(()),
        Kind::Duration if go_duration::parse(value).is_some() => return Ok(()),
        Kind::OneOf(words) if words.contains(&value) => return Ok(()),
        Kind::Bool => "give true or false".to_owned(),
        Kind::Int => "give a whole number".to_owned(),
        Kind::Uint => "give a whole number, not negative".to_owned(),
        Kind::Uint32 => "give a whole number from 0 to 4294967295".to_owned(),
        Kind::Duration => "give a duration such as 300ms, 5s or 1h30m".to_owned(),
        Kind::OneOf(words) => format!("give one of: {}", words.join(", ")),
    };
    Err(StartError::usage(format!("invalid value \"{value}\" for {given_as}: {expected}")))
}

/// The spellings that Go takes for a truth value.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Settings {
    fn notice(&mut self, level: Level, msg: &'static str, fields: Vec<(&'static str, String)>) {
        self.notices.push(Notice::new(level, msg, fields));
    }
}
