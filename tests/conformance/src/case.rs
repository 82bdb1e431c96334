//! A case as it is held in memory: steps, each an action and the answer wanted.

use std::time::Duration;

use plinth_client::Code;

/// A sequence of steps on an empty key space.
#[derive(Clone, Debug)]
pub struct Case {
    /// States the fact, unique among all cases.
    pub name: String,
    /// `file:line` of its first line.
    pub place: String,
    /// Ids of the rows of `rows.txt` that it proves.
    pub rows: Vec<String>,
    /// A server of its own, started with these flags, instead of the shared one.
    pub fresh: Option<Vec<String>>,
    /// Methods without which the case says nothing: left out where a server answers Unimplemented.
    pub needs: Vec<String>,
    /// In order.
    pub steps: Vec<Step>,
}

/// One action, and what must come back.
#[derive(Clone, Debug)]
pub struct Step {
    /// `file:line`.
    pub place: String,
    /// How long to wait before it.
    pub wait: Duration,
    /// How often it is done, each time with the same answer.
    pub times: u32,
    /// What is done.
    pub action: Action,
    /// Metadata of a gRPC call: name and value, templates not yet filled in.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// What must come back.
    pub want: Want,
    /// What etcd 3.5 gives instead.
    pub deviation: Option<Deviation>,
}

/// What a step does. Texts hold templates until the case runs.
#[derive(Clone, Debug)]
pub enum Action {
    /// A call with a message in protobuf text format.
    Call {
        /// `Service/Method`.
        method: String,
        /// The request.
        text: String,
    },
    /// A call with a message of any bytes.
    Raw {
        /// `Service/Method`, or a whole path that begins with `/`.
        method: String,
        /// The message.
        message: Vec<u8>,
    },
    /// A call whose whole body, prefix included, is given.
    Body {
        /// `Service/Method`.
        method: String,
        /// The body.
        body: Vec<u8>,
    },
    /// Opens a streaming call and gives it a name.
    Open {
        /// The name.
        stream: String,
        /// `Service/Method`.
        method: String,
    },
    /// A message on a stream.
    Send {
        /// Its name.
        stream: String,
        /// The message.
        text: String,
    },
    /// Waits for a message of a stream, or for its end.
    Receive {
        /// Its name.
        stream: String,
    },
    /// Nothing may come on a stream for a while.
    Quiet {
        /// Its name.
        stream: String,
    },
    /// Resets a stream.
    Drop {
        /// Its name.
        stream: String,
    },
    /// Says on a stream that nothing more is sent.
    Close {
        /// Its name.
        stream: String,
    },
    /// Kills the server and starts it again, on its data and with its flags. Streams don't survive that.
    Restart,
    /// An HTTP/1 request.
    Http {
        /// Such as GET.
        verb: String,
        /// Path and query.
        target: String,
        /// Body, often empty.
        body: String,
    },
    /// A run of etcdctl against the server.
    Etcdctl {
        /// `3.4` or `3.5`.
        version: String,
        /// Arguments after the endpoint.
        args: Vec<String>,
        /// Standard input.
        stdin: String,
    },
}

/// An answer of etcd 3.5 that differs from the version that plinth follows.
#[derive(Clone, Debug)]
pub struct Deviation {
    /// The row that differs.
    pub row: String,
    /// What 3.5 gives; nothing if the step would harm it, and is not played.
    pub want: Option<Want>,
}

/// What must come back.
#[derive(Clone, Debug)]
pub struct Want {
    /// The answer itself.
    pub reply: Reply,
    /// Paths of fields that must be there with any value but the default.
    pub nonzero: Vec<String>,
    /// Paths of fields that may hold anything.
    pub any: Vec<String>,
    /// Paths of fields that must hold so many bytes, whichever they are.
    pub lengths: Vec<(String, usize)>,
}

impl Want {
    /// `reply` as it is, with nothing left open.
    #[must_use]
    pub fn only(reply: Reply) -> Self {
        Self { reply, nonzero: Vec::new(), any: Vec::new(), lengths: Vec::new() }
    }
}

/// The answer itself.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Success, with this message, body or output.
    Ok(String),
    /// A gRPC status; the message may be a pattern.
    Status {
        /// The code.
        code: Code,
        /// The text.
        message: Pattern,
    },
    /// A process that ends with this code and says this on standard error.
    Exit {
        /// Exit code.
        code: i32,
        /// Standard error.
        stderr: Pattern,
    },
}

/// A text to be met exactly, or with `*` for any characters.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Byte for byte.
    Exact(String),
    /// `*` stands for any characters, none included.
    Glob(String),
}

impl Pattern {
    /// Whether `text` meets it.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(want) => want == text,
            Self::Glob(want) => glob(want, text),
        }
    }
}

/// Whether `text` meets `pattern`, in which `*` stands for any characters.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().expect("split gives at least one part");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_texts() {
        assert!(glob("a*c", "abc") && glob("a*c", "ac") && glob("*", "") && glob("abc", "abc"));
        assert!(!glob("a*c", "acb") && !glob("abc", "abcd") && !glob("a*a", "a"));
        assert!(glob("*took = *ms*", "x took = 5ms\n"));
    }
}
