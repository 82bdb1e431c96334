//! Where log lines go and what they look like: JSON in the shape of etcd's (zap's) lines, zap's console form, or, on a
//! terminal where nobody asked for a form, plain lines for people.
//!
//! Invariant: a line is formatted whole before it is written, and written with one call per output, so lines of several
//! executors never mix. A log that can't be written never stops the node.

mod format;

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

pub use format::json_string;
use plinth_base::log::{self, Level, Record, Sink, Value};

use crate::start_error::StartError;

/// The form of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One JSON object: level, ts, caller, msg, then the fields.
    Json,
    /// Tab-separated, with the fields as JSON at the end.
    Console,
    /// `warning: text key=value`, for people at a terminal.
    Plain,
}

/// Where lines go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file, made if it isn't there.
    File(PathBuf),
}

/// What the flags say about the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// The threshold, if given.
    pub level: Option<Level>,
    /// The form, if given: [`Form::Json`] or [`Form::Console`].
    pub form: Option<Form>,
    /// The outputs, at least one.
    pub outputs: Vec<Output>,
}

impl LogConfig {
    /// The form to use. People get plain lines only where the log is a terminal's and no form was asked for.
    #[must_use]
    pub fn effective_form(&self, stderr_is_terminal: bool) -> Form {
        match self.form {
            Some(form) => form,
            None if stderr_is_terminal && self.outputs == [Output::Stderr] => Form::Plain,
            None => Form::Json,
        }
    }

    /// The threshold to use: in plain form the banner says what Info lines would, so only trouble follows it.
    #[must_use]
    pub fn effective_level(&self, form: Form) -> Level {
        self.level.unwrap_or(if form == Form::Plain { Level::Warn } else { Level::Info })
    }
}

/// A line that came up before there was a log, or that is kept for a test to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// How much it matters.
    pub level: Level,
    /// What happened.
    pub msg: &'static str,
    /// Name and value.
    pub fields: Vec<(&'static str, String)>,
}

impl Notice {
    /// A notice.
    #[must_use]
    pub fn new(level: Level, msg: &'static str, fields: Vec<(&'static str, String)>) -> Self {
        Self { level, msg, fields }
    }

    /// Logs it now.
    pub fn log(&self) {
        if log::enabled(self.level) {
            let fields: Vec<_> = self.fields.iter().map(|(key, value)| (*key, Value::Str(value))).collect();
            log::write(&Record { level: self.level, file: file!(), line: line!(), msg: self.msg, fields: &fields });
        }
    }
}

/// Installs the process's log as `config` says and gives the form it has. To be called once, before the executors
/// start.
pub fn install(config: &LogConfig) -> Result<Form, StartError> {
    let form = config.effective_form(io::stderr().is_terminal());
    let mut targets = Vec::new();
    for output in &config.outputs {
        targets.push(match output {
            Output::Stderr => Target::Stderr,
            Output::Stdout => Target::Stdout,
            Output::File(path) => {
                let opened = OpenOptions::new().append(true).create(true).open(path);
                Target::File(opened.map_err(|error| {
                    StartError::failed(format!(
                        "cannot write the log file {}: {error}; give another with --log-outputs",
                        path.display()
                    ))
                })?)
            }
        });
    }
    log::install(Box::new(LineSink { form, targets }), config.effective_level(form));
    Ok(form)
}

enum Target {
    Stderr,
    Stdout,
    File(File),
}

struct LineSink {
    form: Form,
    targets: Vec<Target>,
}

impl Sink for LineSink {
    fn log(&self, record: &Record<'_>) {
        thread_local! {
            // Kept between lines, so that a line allocates nothing once its thread has logged a few.
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LINE.with_borrow_mut(|line| {
            line.clear();
            format::line(self.form, unix_time, record, line);
            for target in &self.targets {
                // There is nobody to tell when the log itself fails.
                let _ignored = match target {
                    Target::Stderr => io::stderr().write_all(line.as_bytes()),
                    Target::Stdout => io::stdout().lock().write_all(line.as_bytes()),
                    Target::File(file) => (&mut &*file).write_all(line.as_bytes()),
                };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(form: Option<Form>, outputs: Vec<Output>) -> LogConfig {
        LogConfig { level: None, form, outputs }
    }

    #[test]
    fn plain_lines_are_only_for_a_terminal_where_no_form_was_asked_for() {
        let unasked = config(None, vec![Output::Stderr]);
        assert_eq!(unasked.effective_form(true), Form::Plain);
        assert_eq!(unasked.effective_form(false), Form::Json);
        assert_eq!(config(Some(Form::Json), vec![Output::Stderr]).effective_form(true), Form::Json);
        assert_eq!(config(None, vec![Output::Stdout]).effective_form(true), Form::Json);
    }

    #[test]
    fn a_terminal_hears_of_trouble_only_unless_a_level_was_given() {
        let mut config = config(None, vec![Output::Stderr]);
        assert_eq!(config.effective_level(Form::Plain), Level::Warn);
        assert_eq!(config.effective_level(Form::Json), Level::Info);
        config.level = Some(Level::Debug);
        assert_eq!(config.effective_level(Form::Plain), Level::Debug);
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let missing = config(None, vec![Output::File(PathBuf::from("/nonexistent/plinth.log"))]);
        let error = install(&missing).expect_err("the directory doesn't exist");
        assert!(error.to_string().contains("/nonexistent/plinth.log"), "{error}");
        assert!(error.to_string().contains("--log-outputs"), "{error}");
    }
}
