//! Structured log lines: what is said and where in the code, never where it goes.
//!
//! Any crate logs through [`log_info!`](crate::log_info) and its siblings; the program installs one [`Sink`] at start.
//! Without one (tests, the simulator) a line costs one relaxed load and goes nowhere.
//!
//! Invariant: the sink is installed at most once and lives as long as the process, so a line never waits for a lock to
//! find it.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

/// How much a line matters. Ordered: a threshold lets itself and everything above pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// For whoever hunts a fault in plinth.
    Debug = 0,
    /// What an operator wants to find afterwards.
    Info = 1,
    /// Works, but somebody should look.
    Warn = 2,
    /// Something failed.
    Error = 3,
    /// The process ends because of this.
    Fatal = 4,
}

impl Level {
    /// The lower-case word that log lines and `--log-level` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// The value of one field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Text.
    Str(&'a str),
    /// Several texts.
    Strs(&'a [String]),
    /// A count, a size, an index.
    U64(u64),
    /// A number that may be negative.
    I64(i64),
    /// A measured number.
    F64(f64),
    /// Yes or no.
    Bool(bool),
    /// A span of time.
    Duration(Duration),
    /// Anything with a text form: an error, an id, a path.
    Display(&'a dyn fmt::Display),
}

impl<'a> Value<'a> {
    /// Anything with a text form.
    pub fn display(value: &'a dyn fmt::Display) -> Self {
        Self::Display(value)
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident as $to:ty,)*) => {
        $(impl From<$from> for Value<'_> {
            fn from(value: $from) -> Self {
                Self::$variant(value as $to)
            }
        })*
    };
}

value_from! {
    u8 => U64 as u64, u16 => U64 as u64, u32 => U64 as u64, u64 => U64 as u64, usize => U64 as u64,
    i32 => I64 as i64, i64 => I64 as i64,
    f64 => F64 as f64,
    bool => Bool as bool,
    Duration => Duration as Duration,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Str(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Str(value)
    }
}

impl<'a> From<&'a [String]> for Value<'a> {
    fn from(value: &'a [String]) -> Self {
        Self::Strs(value)
    }
}

/// One log line before it has a form.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// How much it matters.
    pub level: Level,
    /// The source file, as `file!()` gives it.
    pub file: &'static str,
    /// The line in that file.
    pub line: u32,
    /// What happened: constant text, so that it can be searched for. What varies belongs in the fields.
    pub msg: &'a str,
    /// Name and value, in the order in which they are shown.
    pub fields: &'a [(&'a str, Value<'a>)],
}

/// Where lines go. Called from every thread; must not block for long, an executor may be waiting behind it.
pub trait Sink: Send + Sync + 'static {
    /// Takes one line whose level passed the threshold.
    fn log(&self, record: &Record<'_>);
}

/// Above every level: nothing passes before a sink is there.
const OFF: u8 = u8::MAX;

static THRESHOLD: AtomicU8 = AtomicU8::new(OFF);
static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

/// Sends all lines of `level` and above to `sink` from now on. False, and without effect, if a sink is there already.
pub fn install(sink: Box<dyn Sink>, level: Level) -> bool {
    let installed = SINK.set(sink).is_ok();
    if installed {
        THRESHOLD.store(level as u8, Ordering::Relaxed);
    }
    installed
}

/// Whether a line of this level goes anywhere.
#[must_use]
pub fn enabled(level: Level) -> bool {
    level as u8 >= THRESHOLD.load(Ordering::Relaxed)
}

/// Hands a line to the sink. The macros call it after [`enabled`]; use them.
pub fn write(record: &Record<'_>) {
    if let Some(sink) = SINK.get() {
        sink.log(record);
    }
}

/// Logs at a level that is known only at run time: `log_at!(level, "text", "key" => value, ...)`.
#[macro_export]
macro_rules! log_at {
    ($level:expr, $msg:expr $(, $key:expr => $value:expr)* $(,)?) => {{
        let level: $crate::log::Level = $level;
        if $crate::log::enabled(level) {
            $crate::log::write(&$crate::log::Record {
                level,
                file: file!(),
                line: line!(),
                msg: $msg,
                fields: &[$(($key, $crate::log::Value::from($value))),*],
            });
        }
    }};
}

/// `log_debug!("text", "key" => value, ...)`.
#[macro_export]
macro_rules! log_debug {
    ($($line:tt)*) => { $crate::log_at!($crate::log::Level::Debug, $($line)*) };
}

/// `log_info!("text", "key" => value, ...)`.
#[macro_export]
macro_rules! log_info {
    ($($line:tt)*) => { $crate::log_at!($crate::log::Level::Info, $($line)*) };
}

/// `log_warn!("text", "key" => value, ...)`.
#[macro_export]
macro_rules! log_warn {
    ($($line:tt)*) => { $crate::log_at!($crate::log::Level::Warn, $($line)*) };
}

/// `log_error!("text", "key" => value, ...)`.
#[macro_export]
macro_rules! log_error {
    ($($line:tt)*) => { $crate::log_at!($crate::log::Level::Error, $($line)*) };
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    struct Collect;

    impl Sink for Collect {
        fn log(&self, record: &Record<'_>) {
            let mut line = format!("{} {}", record.level.name(), record.msg);
            for (key, value) in record.fields {
                let text = match value {
                    Value::Str(text) => (*text).to_owned(),
                    Value::U64(number) => number.to_string(),
                    Value::Display(text) => text.to_string(),
                    _ => "?".to_owned(),
                };
                line.push_str(&format!(" {key}={text}"));
            }
            SEEN.lock().expect("no test panics with the lock held").push(line);
        }
    }

    #[test]
    fn lines_below_the_threshold_and_before_the_sink_go_nowhere() {
        log_error!("before the sink");
        assert!(install(Box::new(Collect), Level::Info));
        assert!(!install(Box::new(Collect), Level::Debug), "the second sink is refused");
        log_debug!("below the threshold");
        let id = crate::MemberId(7);
        log_info!("started", "name" => "default", "size" => 3_usize, "member" => Value::display(&id));
        let seen = SEEN.lock().expect("no test panics with the lock held");
        assert_eq!(*seen, ["info started name=default size=3 member=7"]);
    }
}
