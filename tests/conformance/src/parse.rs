//! The case format: a transcript in which each line begins with what it is.
//!
//! ```text
//! case put_returns_what_it_replaced      a new case; what follows belongs to it
//! rows put.prev_kv                       the rows of rows.txt that it proves
//! fresh --max-txn-ops=4                  (optional) a server of its own, with these flags
//! needs Lease/LeaseGrant                 (optional) left out where the server does not implement that
//!
//! KV/Put key: "a" value: "1"             a call, the message in protobuf text format
//! -> header { revision: @1 }             the whole answer wanted
//! KV/Put key: ""
//! !! InvalidArgument "etcdserver: key is not provided"
//! 3.5 some.row -> header { revision: @1 }    what etcd 3.5 gives instead, and the row in which it differs
//! 3.5 some.row -- it panics              the step is not played to etcd 3.5
//! meta hasleader "true"                  metadata of the next call
//! wait 4                                 seconds to wait before the next step
//! times 1001                             the next step is done so often
//! raw KV/Put "\x0a\xff"                  a message of any bytes; `body` for a body without a prefix of ours
//! stream w Watch/Watch                   opens a streaming call by the name of w
//! send w create_request { key: "a" }     a message on it
//! recv w                                 waits for the next answer, or for the end: `!! Ok ""` if it ends in order
//! -> header { revision: @1 } created: true
//! quiet w                                nothing comes for half a second
//! close w                                says that nothing more is sent
//! drop w                                 resets the call
//! restart                                kills the server and starts it again, on its data and with its flags
//! GET /health                            HTTP/1; POST takes a body after the target
//! -> 200 {"health":"true","reason":""}
//! etcdctl put a 1                        etcdctl by each version (etcdctl3.4, etcdctl3.5: by one)
//! << text                                its standard input
//! -> OK                                  its standard output; `!! exit 1 text` for a failure
//! nonzero dbSize                         fields that must be set, whatever to; `any` may be anything
//! length blob 32                         a field that must have so many bytes
//! ```
//!
//! An indented line goes on with the one before. A line that begins with `#` is a comment. Templates are filled in when the
//! case runs, see the `template` module.

use std::{fmt, time::Duration};

use plinth_client::Code;

use crate::case::{Action, Case, Deviation, Pattern, Reply, Step, Want};

/// Versions of etcdctl that a plain `etcdctl` step runs, one after the other.
const ETCDCTL_VERSIONS: [&str; 2] = ["3.4", "3.5"];

/// A line that is no line of a case.
#[derive(Debug)]
pub struct ParseError {
    place: String,
    what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for ParseError {}

/// All cases of the file `name` with the content `text`.
pub fn parse_cases(name: &str, text: &str) -> Result<Vec<Case>, ParseError> {
    let mut parser = Parser::default();
    for (line, directive) in join_lines(text) {
        parser.place = format!("{name}:{line}");
        let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((&directive, ""));
        parser.line(word, rest.trim_start()).map_err(|what| ParseError { place: parser.place.clone(), what })?;
    }
    parser.end_step().map_err(|what| ParseError { place: parser.place.clone(), what })?;
    Ok(parser.cases)
}

/// The directives with the number of their first line, continuation lines joined to them.
fn join_lines(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match joined.last_mut() {
            Some((_, last)) if line.starts_with(' ') => {
                last.push('\n');
                last.push_str(line.trim());
            }
            _ => joined.push((index + 1, line.trim_end().to_owned())),
        }
    }
    joined
}

#[derive(Default)]
struct Parser {
    cases: Vec<Case>,
    place: String,
    metadata: Vec<(String, Vec<u8>)>,
    wait: Duration,
    times: Option<u32>,
    open: Option<OpenStep>,
}

/// A step of which not all lines are read: an `etcdctl` step has an action for each version.
struct OpenStep {
    place: String,
    actions: Vec<Action>,
    metadata: Vec<(String, Vec<u8>)>,
    wait: Duration,
    times: u32,
    want: Option<Want>,
    deviation: Option<Deviation>,
}

impl Parser {
    fn line(&mut self, word: &str, rest: &str) -> Result<(), String> {
        match word {
            "case" => {
                self.end_step()?;
                let case = Case {
                    name: rest.to_owned(),
                    place: self.place.clone(),
                    rows: Vec::new(),
                    fresh: None,
                    needs: Vec::new(),
                    steps: Vec::new(),
                };
                self.cases.push(case);
            }
            "rows" => self.case()?.rows.extend(words(rest)),
            "fresh" => self.case()?.fresh = Some(words(rest).collect()),
            "needs" => self.case()?.needs.extend(words(rest)),
            "meta" => {
                let (name, value) = rest.split_once(' ').ok_or("meta NAME \"VALUE\"")?;
                self.metadata.push((name.to_owned(), unquote(value)?));
            }
            "wait" => self.wait = Duration::from_secs(rest.parse().map_err(|_| format!("wait SECONDS, not {rest:?}"))?),
            "times" => self.times = Some(rest.parse().map_err(|_| format!("times NUMBER, not {rest:?}"))?),
            "->" | "!!" => self.step()?.want = Some(want(word, rest)?),
            "3.5" => {
                let (row, rest) = rest.split_once(' ').ok_or("3.5 ROW -> ANSWER")?;
                let (arrow, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                let want = if arrow == "--" { None } else { Some(want(arrow, rest)?) };
                self.step()?.deviation = Some(Deviation { row: row.to_owned(), want });
            }
            "nonzero" => self.last_want()?.nonzero.extend(words(rest)),
            "any" => self.last_want()?.any.extend(words(rest)),
            "length" => {
                let (path, bytes) = rest.split_once(' ').ok_or("length FIELD BYTES")?;
                let bytes = bytes.parse().map_err(|_| format!("{bytes:?} is no number of bytes"))?;
                self.last_want()?.lengths.push((path.to_owned(), bytes));
            }
            "<<" => self.stdin(rest)?,
            _ => {
                self.end_step()?;
                let actions = actions(word, rest)?;
                self.case()?;
                self.open = Some(OpenStep {
                    place: self.place.clone(),
                    actions,
                    metadata: std::mem::take(&mut self.metadata),
                    wait: std::mem::take(&mut self.wait),
                    times: self.times.take().unwrap_or(1),
                    want: None,
                    deviation: None,
                });
            }
        }
        Ok(())
    }

    fn case(&mut self) -> Result<&mut Case, String> {
        self.cases.last_mut().ok_or_else(|| "a case must begin first".to_owned())
    }

    fn step(&mut self) -> Result<&mut OpenStep, String> {
        self.open.as_mut().ok_or_else(|| "there is no step before this".to_owned())
    }

    fn last_want(&mut self) -> Result<&mut Want, String> {
        let step = self.step()?;
        let deviation = step.deviation.as_mut().and_then(|deviation| deviation.want.as_mut());
        deviation.or(step.want.as_mut()).ok_or_else(|| "there is no answer before this".to_owned())
    }

    fn stdin(&mut self, text: &str) -> Result<(), String> {
        for action in &mut self.step()?.actions {
            let Action::Etcdctl { stdin, .. } = action else { return Err("only etcdctl reads an input".to_owned()) };
            stdin.push_str(text);
            stdin.push('\n');
        }
        Ok(())
    }

    fn end_step(&mut self) -> Result<(), String> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let has_no_answer = |action: &Action| {
            use Action::{Close, Drop, Open, Quiet, Restart, Send};
            matches!(action, Open { .. } | Send { .. } | Quiet { .. } | Close { .. } | Drop { .. } | Restart)
        };
        let none = open.actions.iter().all(has_no_answer).then(|| Want::only(Reply::Ok(String::new())));
        let want = open.want.or(none).ok_or_else(|| format!("the step at {} wants no answer", open.place))?;
        let steps = open.actions.into_iter().map(|action| Step {
            place: open.place.clone(),
            action,
            metadata: open.metadata.clone(),
            wait: open.wait,
            times: open.times,
            want: want.clone(),
            deviation: open.deviation.clone(),
        });
        self.cases.last_mut().expect("a step is in a case").steps.extend(steps);
        Ok(())
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(str::to_owned)
}

fn actions(word: &str, rest: &str) -> Result<Vec<Action>, String> {
    let method_and_bytes = || -> Result<(String, Vec<u8>), String> {
        let (method, bytes) = rest.split_once(' ').ok_or("METHOD \"BYTES\"")?;
        Ok((method.to_owned(), unquote(bytes)?))
    };
    let action = match word {
        "raw" => {
            let (method, message) = method_and_bytes()?;
            Action::Raw { method, message }
        }
        "body" => {
            let (method, body) = method_and_bytes()?;
            Action::Body { method, body }
        }
        "stream" => {
            let (stream, method) = rest.split_once(' ').ok_or("stream NAME METHOD")?;
            Action::Open { stream: stream.to_owned(), method: method.to_owned() }
        }
        "send" => {
            let (stream, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Action::Send { stream: stream.to_owned(), text: text.to_owned() }
        }
        "recv" => Action::Receive { stream: rest.to_owned() },
        "quiet" => Action::Quiet { stream: rest.to_owned() },
        "drop" => Action::Drop { stream: rest.to_owned() },
        "close" => Action::Close { stream: rest.to_owned() },
        "restart" => Action::Restart,
        "GET" | "POST" | "PUT" => {
            let (target, body) = rest.split_once(' ').unwrap_or((rest, ""));
            Action::Http { verb: word.to_owned(), target: target.to_owned(), body: body.to_owned() }
        }
        "etcdctl" => return Ok(ETCDCTL_VERSIONS.iter().map(|version| etcdctl(version, rest)).collect()),
        _ if word.starts_with("etcdctl") => etcdctl(&word["etcdctl".len()..], rest),
        _ if word.contains('/') => Action::Call { method: word.to_owned(), text: rest.to_owned() },
        _ => return Err(format!("{word:?} begins no line of a case")),
    };
    Ok(vec![action])
}

fn etcdctl(version: &str, args: &str) -> Action {
    Action::Etcdctl { version: version.to_owned(), args: split_args(args), stdin: String::new() }
}

/// Splits at blanks, except between double quotes; there is no escape.
fn split_args(text: &str) -> Vec<String> {
    let mut args = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            args.push(part.to_owned());
        } else {
            args.extend(words(part));
        }
    }
    args
}

fn want(arrow: &str, rest: &str) -> Result<Want, String> {
    let reply = match arrow {
        "->" => Reply::Ok(rest.to_owned()),
        "!!" => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, "*"));
            if code == "exit" {
                let (code, text) = text.split_once(' ').unwrap_or((text, "*"));
                let code = code.parse().map_err(|_| format!("{code:?} is no exit code"))?;
                Reply::Exit { code, stderr: pattern(text)? }
            } else {
                let code = Code::from_name(code).ok_or_else(|| format!("{code:?} is no status code"))?;
                Reply::Status { code, message: pattern(text)? }
            }
        }
        _ => return Err(format!("{arrow:?} is neither -> nor !!")),
    };
    Ok(Want::only(reply))
}

/// A quoted text is meant exactly, anything else is a pattern.
fn pattern(text: &str) -> Result<Pattern, String> {
    if !text.starts_with('"') {
        return Ok(Pattern::Glob(text.to_owned()));
    }
    let bytes = unquote(text)?;
    String::from_utf8(bytes).map(Pattern::Exact).map_err(|_| "a message is UTF-8".to_owned())
}

/// The bytes of a quoted text, in which `\xHH`, `\\` and `\"` are escapes.
fn unquote(text: &str) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let mut rest = inner.ok_or_else(|| format!("{text} is not in double quotes"))?.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [b'x', high, low, ..]) => {
                let hex = [*high, *low];
                let hex = std::str::from_utf8(&hex).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(hex.ok_or("\\x wants two hexadecimal digits")?);
                rest = &tail[3..];
            }
            (b'\\', [escaped @ (b'\\' | b'"'), ..]) => {
                bytes.push(*escaped);
                rest = &tail[1..];
            }
            (b'\\', _) => return Err("\\ goes before xHH, \\ or \"".to_owned()),
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
