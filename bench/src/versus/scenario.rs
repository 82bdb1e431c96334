//! What is asked of both servers, from a file in TOML:
//!
//! ```toml
//! description = "Puts over eight connections with 64 streams each"
//!
//! [load]              # options of `plinth-bench load` without their dashes; `true` is a switch
//! op = "put"
//! connections = 8
//! streams = 64
//!
//! [fill]              # what is there before; all of it may be left out
//! keys = 100000       # default: as many as the load has; so are the others
//! value-bytes = 256
//! rounds = 1          # how often each key is written
//!
//! [flags]             # of a server, besides those that it always gets
//! etcd = ["--snapshot-count=100000"]
//! ```

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Deserialize;

use crate::{
    args::Args,
    failure::Failure,
    lab::Method,
    load::{self, Op, Pace, Plan, Shape},
    server::Kind,
};

/// Options of `load` that `versus` itself gives.
const OWN: [&str; 11] =
    ["endpoint", "pid", "data-dir", "core", "executor", "json", "fill", "warmup", "seconds", "total", "seed"];

/// A scenario that can be run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// That of its file, without the extension.
    pub name: String,
    /// One line.
    pub description: String,
    load: BTreeMap<String, Scalar>,
    /// Keys and values of the load.
    shape: Shape,
    fill: Fill,
    flags: Flags,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    load: BTreeMap<String, Scalar>,
    #[serde(default)]
    fill: Fill,
    #[serde(default)]
    flags: Flags,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Switch(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Fill {
    keys: Option<u64>,
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    rounds: u64,
}

impl Default for Fill {
    fn default() -> Self {
        Self { keys: None, key_bytes: None, value_bytes: None, rounds: 1 }
    }
}

#[derive(Clone, Default, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Flags {
    plinth: Vec<String>,
    etcd: Vec<String>,
}

impl Scenario {
    /// Reads a scenario; `load` must take its options.
    ///
    /// # Errors
    /// One line that names the scenario, and the line of its file or the option.
    pub fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let refused = |why: String| Failure::Trouble(format!("scenario {name}{why}"));
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
            refused(format!(", line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let File { description, load, fill, flags } = file;
        if let Some(own) = load.keys().find(|option| OWN.contains(&option.as_str())) {
            return Err(refused(format!(", [load]: {own} is not for a scenario to say, versus does")));
        }
        if fill.rounds == 0 || fill.keys == Some(0) {
            return Err(refused(", [fill]: keys and rounds are at least 1".to_owned()));
        }
        let shape = Shape { keys: 0, key_bytes: 0, value_bytes: 0 };
        let scenario = Self { name: name.to_owned(), description, load, shape, fill, flags };
        let plan = scenario.plan_of_load().map_err(|failure| refused(format!(", [load]: {failure}")))?;
        Ok(Self { shape: plan.shape, ..scenario })
    }

    /// The same with fewer keys, for a quick look.
    pub fn with_keys_max(mut self, keys_max: u64) -> Result<Self, Failure> {
        self.fill.keys = self.fill.keys.map(|keys| keys.min(keys_max));
        self.shape.keys = self.shape.keys.min(keys_max);
        let keys = i64::try_from(self.shape.keys).unwrap_or(i64::MAX);
        self.load.insert("keys".to_owned(), Scalar::Whole(keys));
        Ok(self)
    }

    /// The load on a server.
    pub fn plan(&self, endpoints: &[SocketAddr], method: &Method) -> Result<Plan, Failure> {
        let (endpoints, plan) = (endpoints.to_vec(), self.plan_of_load()?);
        Ok(Plan { endpoints, warmup: method.warmup, measured: method.measured, seed: method.seed, ..plan })
    }

    fn plan_of_load(&self) -> Result<Plan, Failure> {
        let mut args = self.args();
        let plan = load::plan_of(&mut args)?;
        args.finish()?;
        Ok(plan)
    }

    /// Keys and values that are there before.
    #[must_use]
    pub fn fill_shape(&self) -> Shape {
        Shape {
            keys: self.fill.keys.unwrap_or(self.shape.keys),
            key_bytes: self.fill.key_bytes.unwrap_or(self.shape.key_bytes),
            value_bytes: self.fill.value_bytes.unwrap_or(self.shape.value_bytes),
        }
    }

    /// How often each of them was written.
    #[must_use]
    pub fn fill_rounds(&self) -> u64 {
        self.fill.rounds
    }

    /// Whether it is one put after the other by one client, and nothing else.
    pub fn is_put_by_one(&self) -> Result<bool, Failure> {
        let plan = self.plan_of_load()?;
        Ok(plan.op == Op::Put && plan.mix.is_empty() && plan.clients.count() == 1 && plan.pace == Pace::Closed)
    }

    /// What a server gets besides.
    #[must_use]
    pub fn flags(&self, kind: Kind) -> &[String] {
        match kind {
            Kind::Plinth => &self.flags.plinth,
            Kind::Etcd => &self.flags.etcd,
        }
    }

    /// As `load` would be called.
    fn args(&self) -> Args {
        let mut args = Vec::new();
        for (name, value) in &self.load {
            let value = match value {
                Scalar::Switch(false) => continue,
                Scalar::Switch(true) => None,
                Scalar::Whole(number) => Some(number.to_string()),
                Scalar::Number(number) => Some(number.to_string()),
                Scalar::Text(text) => Some(text.clone()),
            };
            args.push(format!("--{name}"));
            args.extend(value);
        }
        Args::new(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Scenario::parse("mine", text).expect_err("nonsense").to_string()
    }

    #[test]
    fn load_fill_and_flags_are_read() {
        let text = "description = \"d\"\n[load]\nop = \"range\" # why\nserializable = true\nconnections = 3\nkeys = 700\n\
                    [fill]\nvalue-bytes = 9\nrounds = 4\n[flags]\netcd = [\"--x=1\"]\n";
        let scenario = Scenario::parse("mine", text).expect("sound");
        assert_eq!(scenario.fill_shape(), Shape { keys: 700, key_bytes: 32, value_bytes: 9 });
        assert_eq!((scenario.fill_rounds(), scenario.flags(Kind::Etcd).len()), (4, 1));
        assert!(scenario.flags(Kind::Plinth).is_empty());
        let plan = scenario.plan_of_load().expect("checked before");
        assert_eq!((plan.clients.connections, plan.shape.keys), (3, 700));
        let quick = scenario.with_keys_max(50).expect("possible");
        assert_eq!((quick.fill_shape().keys, quick.shape.keys), (50, 50));
    }

    #[test]
    fn one_client_puts_alone_or_not() {
        let is_one = |load: &str| {
            let text = format!("description = \"d\"\n[load]\n{load}\n");
            Scenario::parse("mine", &text).and_then(|scenario| scenario.is_put_by_one()).expect("sound")
        };
        assert!(is_one("op = \"put\"\nconnections = 1\nstreams = 1"));
        assert!(!is_one("op = \"put\"") && !is_one("op = \"range\"\nconnections = 1\nstreams = 1"));
        assert!(!is_one("op = \"put\"\nconnections = 1\nstreams = 1\nrate = 100"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_or_option() {
        assert!(refused("description = \"d\"\n[load\n").starts_with("scenario mine, line 2: "));
        assert!(refused("[load]\nop = \"put\"\n").ends_with("missing field `description`"));
        assert!(refused("description = \"d\"\n[load]\n[fil]\n").contains("unknown field `fil`"));
        assert!(refused("description = \"d\"\n[load]\nop = [1]\n").starts_with("scenario mine, line 3: "));
        let load = |line: &str| refused(&format!("description = \"d\"\n[load]\n{line}\n"));
        assert_eq!(load("seconds = 5"), "scenario mine, [load]: seconds is not for a scenario to say, versus does");
        assert_eq!(load("kyes = 5"), "scenario mine, [load]: unknown argument \"--kyes\"");
        assert_eq!(load("keys = \"x\""), "scenario mine, [load]: --keys does not take \"x\"");
        assert!(load("op = \"pat\"").starts_with("scenario mine, [load]: --op takes "));
        let fill = refused("description = \"d\"\n[load]\n[fill]\nrounds = 0\n");
        assert_eq!(fill, "scenario mine, [fill]: keys and rounds are at least 1");
        assert!(!refused("description = \"d\n").contains('\n'), "one line");
    }
}
