//! Plays cases, one after the other, to a server that it starts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use plinth_client::{Call, Client, Code, Status, Stream, frame, http_request};
use prost::Message as _;

use crate::{
    case::{Action, Case, Deviation, Pattern, Reply, Step, Want},
    check::{Ids, check_call, check_http, check_process},
    parse::parse_cases,
    process::etcdctl,
    schema::{self, Method, Schema},
    server::{Dialect, MEMBER_NAME, Server, Target},
    template::Template,
};

/// A step that takes longer has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long nothing has to come on a stream that is quiet.
const QUIET: Duration = Duration::from_millis(500);
/// Every key there is.
const ALL_KEYS: &str = r#"key: "\0" range_end: "\0""#;

/// How a run went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Cases whose every step met what was wanted.
    pub passed: usize,
    /// The others.
    pub failed: usize,
}

/// All cases in the files of `folder`, in the order of the files' names.
pub fn load_cases(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).map_err(|error| format!("{name}: {error}"))?;
        cases.extend(parse_cases(&name, &text).map_err(|error| error.to_string())?);
    }
    Ok(cases)
}

/// Runs `cases` against `target`, printing each failure. `peers` holds the etcdctl programs. An error means that the run
/// itself could not go on.
pub async fn run(target: &Target, cases: &[Case], schema: &Schema, peers: &Path) -> Result<Summary, String> {
    let mut shared = Session::start(target, &[], schema, peers).await?;
    let mut summary = Summary::default();
    for case in cases {
        if let Some(missing) = shared.missing_method(&case.needs).await? {
            println!("left out: {} ({}): the server does not implement {missing}", case.name, case.place);
            continue;
        }
        let outcome = match &case.fresh {
            None => shared.play(case).await,
            Some(flags) => match Session::start(target, flags, schema, peers).await {
                Ok(mut session) => session.play(case).await,
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(()) => summary.passed += 1,
            Err(failure) => {
                summary.failed += 1;
                println!("FAILED {} ({})\n{}\n", case.name, case.place, indent(&failure));
                if !shared.server.is_alive() {
                    println!("the server is gone; its log ends with\n{}\n", indent(&shared.server.log_tail()));
                    shared = Session::start(target, &[], schema, peers).await?;
                }
            }
        }
    }
    Ok(summary)
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// A server and a connection to it.
struct Session<'a> {
    server: Server,
    client: Client,
    schema: &'a Schema,
    peers: &'a Path,
    dialect: Dialect,
    ids: Ids,
    template: Template,
}

impl<'a> Session<'a> {
    async fn start(target: &Target, flags: &[String], schema: &'a Schema, peers: &'a Path) -> Result<Self, String> {
        let server = Server::start(&target.binary, flags).map_err(|error| error.to_string())?;
        let client = Client::connect(server.client_addr).await.map_err(|error| error.to_string())?;
        let mut session = Self {
            server,
            client,
            schema,
            peers,
            dialect: target.dialect,
            ids: Ids::default(),
            template: Template::default(),
        };
        session.learn_names().await?;
        Ok(session)
    }

    /// Another process on the same data, and a connection to it. It must say that it is who it was.
    async fn restart(&mut self, template: &mut Template) -> Result<(), String> {
        let before = self.ids;
        self.server.restart().map_err(|error| error.to_string())?;
        self.client = Client::connect(self.server.client_addr).await.map_err(|error| error.to_string())?;
        self.learn_names().await?;
        template.names.clone_from(&self.template.names);
        if (before.cluster, before.member) != (self.ids.cluster, self.ids.member) {
            return Err(format!("other ids: {before:?} before, {:?} now", self.ids));
        }
        Ok(())
    }

    /// Fills in what templates and headers need to know of the server.
    async fn learn_names(&mut self) -> Result<(), String> {
        let status = self.ask("Maintenance/Status", "").await?;
        let header = status.get_field_by_name("header").ok_or("Status has no header")?.into_owned();
        let header = header.as_message().ok_or("the header is no message")?.clone();
        let id = |name| header.get_field_by_name(name).and_then(|value| value.as_u64()).unwrap_or_default();
        self.ids = Ids { cluster: id("cluster_id"), member: id("member_id"), term: id("raft_term") };
        let version = status.get_field_by_name("version").and_then(|value| value.as_str().map(str::to_owned));
        self.template.names = [
            ("cluster", self.ids.cluster.to_string()),
            ("cluster.hex", format!("{:x}", self.ids.cluster)),
            ("member", self.ids.member.to_string()),
            ("member.hex", format!("{:x}", self.ids.member)),
            ("term", self.ids.term.to_string()),
            ("client.addr", self.server.client_addr.to_string()),
            ("client.url", format!("http://{}", self.server.client_addr)),
            ("peer.url", format!("http://{}", self.server.peer_addr)),
            ("name", MEMBER_NAME.to_owned()),
            ("version", version.unwrap_or_default()),
        ]
        .into();
        Ok(())
    }

    /// A call of the runner's own, which must succeed.
    async fn ask(&self, method: &str, text: &str) -> Result<prost_reflect::DynamicMessage, String> {
        let method = self.schema.method(method)?;
        let request = schema::parse(&method.request, text)?;
        let call = Call::message(&request).with_deadline(STEP_TIMEOUT);
        let answer = self.client.call(&method.path, call).await;
        schema::decode(&method.response, answer.map_err(|status| format!("{}: {status}", method.path))?)
    }

    /// The first of `methods` that the server does not implement. It is asked with bytes that are no message, so that nothing
    /// happens where it is implemented.
    async fn missing_method(&self, methods: &[String]) -> Result<Option<String>, String> {
        for name in methods {
            let method = self.schema.method(name)?;
            let answer = self.client.call(&method.path, Call::raw(b"\xff").with_deadline(STEP_TIMEOUT)).await;
            if matches!(answer, Err(Status { code: Code::UNIMPLEMENTED, .. })) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    /// Empties the key space and goes through the steps of `case`.
    async fn play(&mut self, case: &Case) -> Result<(), String> {
        let emptied = self.ask("KV/DeleteRange", ALL_KEYS).await?;
        let header = emptied.get_field_by_name("header").ok_or("DeleteRange has no header")?;
        let header = header.as_message().ok_or("the header is no message")?;
        let revision = header.get_field_by_name("revision").and_then(|value| value.as_i64());
        let mut template = self.template.clone();
        template.base_revision = revision.ok_or("the header has no revision")?;
        let mut streams = Streams::default();
        for step in &case.steps {
            tokio::time::sleep(step.wait).await;
            for _ in 0..step.times {
                let outcome = if matches!(step.action, Action::Restart) {
                    self.restart(&mut template).await
                } else {
                    let played =
                        tokio::time::timeout(STEP_TIMEOUT, self.play_step(step, &template, &mut streams)).await;
                    played.unwrap_or_else(|_| Err(format!("no answer within {STEP_TIMEOUT:?}")))
                };
                outcome.map_err(|failure| {
                    format!("step at {}: {}\n{failure}", step.place, shorten(&format!("{:?}", step.action)))
                })?;
            }
        }
        Ok(())
    }

    async fn play_step(&self, step: &Step, template: &Template, streams: &mut Streams) -> Result<(), String> {
        let want = match (&step.deviation, self.dialect) {
            (Some(Deviation { want: None, .. }), Dialect::Etcd35) => return Ok(()),
            (Some(Deviation { want: Some(want), .. }), Dialect::Etcd35) => want,
            _ => &step.want,
        };
        let want = fill_want(want, template)?;
        match &step.action {
            Action::Call { method, text } => {
                let descriptor = self.schema.method(method)?.request;
                let request = schema::parse(&descriptor, &template.fill(text)?);
                let request = request.map_err(|error| format!("the case is wrong: {error}"))?;
                self.play_call(method, Call::message(&request), step, &want).await
            }
            Action::Raw { method, message } => self.play_call(method, Call::body(frame(message)), step, &want).await,
            Action::Body { method, body } => self.play_call(method, Call::body(body.clone().into()), step, &want).await,
            Action::Open { stream, method } => {
                let method = self.schema.method(method)?;
                let call = with_metadata(Call::body(Bytes::new()), step)?;
                let opened = self.client.stream(&method.path, call).await.map_err(|status| status.to_string())?;
                streams.0.insert(stream.clone(), (method, opened));
                Ok(())
            }
            Action::Send { stream, text } => {
                let (method, stream) = streams.find(stream)?;
                let request = schema::parse(&method.request, &template.fill(text)?);
                let request = request.map_err(|error| format!("the case is wrong: {error}"))?;
                stream.send(&request.encode_to_vec()).map_err(|status| status.to_string())
            }
            Action::Receive { stream } => {
                let (method, stream) = streams.find(stream)?;
                check_call(Some(&method.response), &want, self.ids, &stream.next().await)
            }
            Action::Quiet { stream } => {
                let (method, stream) = streams.find(stream)?;
                match tokio::time::timeout(QUIET, stream.next()).await {
                    Err(_) => Ok(()),
                    Ok(Ok(message)) => {
                        Err(format!("got: {}", schema::print(&schema::decode(&method.response, message)?)))
                    }
                    Ok(Err(status)) => Err(format!("got: {status}")),
                }
            }
            Action::Drop { stream } => {
                streams.find(stream)?;
                streams.0.remove(stream);
                Ok(())
            }
            Action::Close { stream } => streams.find(stream)?.1.close().map_err(|status| status.to_string()),
            Action::Restart => unreachable!("a restart is no matter of this process alone"),
            Action::Http { verb, target, body } => {
                let body = template.fill(body)?;
                let answer = http_request(self.server.client_addr, verb, target, body.as_bytes()).await;
                let answer = answer.map_err(|error| error.to_string())?;
                check_http(&want, answer.status, &answer.text())
            }
            Action::Etcdctl { version, args, stdin } => {
                let args = args.iter().map(|arg| template.fill(arg)).collect::<Result<Vec<_>, _>>()?;
                let got = etcdctl(self.peers, version, self.server.client_addr, &args, &template.fill(stdin)?);
                check_process(&want, &got.map_err(|error| error.to_string())?)
            }
        }
    }

    async fn play_call(&self, method: &str, call: Call, step: &Step, want: &Want) -> Result<(), String> {
        let call = with_metadata(call, step)?.with_deadline(STEP_TIMEOUT);
        if method.starts_with('/') {
            return check_call(None, want, self.ids, &self.client.call(method, call).await);
        }
        let method = self.schema.method(method)?;
        check_call(Some(&method.response), want, self.ids, &self.client.call(&method.path, call).await)
    }
}

fn with_metadata(mut call: Call, step: &Step) -> Result<Call, String> {
    for (name, value) in &step.metadata {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
        call = call.with_metadata(name, value);
    }
    Ok(call)
}

/// The streams that a case has opened, by their names.
#[derive(Default)]
struct Streams(BTreeMap<String, (Method, Stream)>);

impl Streams {
    fn find(&mut self, name: &str) -> Result<&mut (Method, Stream), String> {
        self.0.get_mut(name).ok_or_else(|| format!("the case is wrong: there is no stream {name}"))
    }
}

fn fill_want(want: &Want, template: &Template) -> Result<Want, String> {
    let fill_pattern = |pattern: &Pattern| -> Result<Pattern, String> {
        Ok(match pattern {
            Pattern::Exact(text) => Pattern::Exact(template.fill(text)?),
            Pattern::Glob(text) => Pattern::Glob(template.fill(text)?),
        })
    };
    let reply = match &want.reply {
        Reply::Ok(text) => Reply::Ok(template.fill(text)?),
        Reply::Status { code, message } => Reply::Status { code: *code, message: fill_pattern(message)? },
        Reply::Exit { code, stderr } => Reply::Exit { code: *code, stderr: fill_pattern(stderr)? },
    };
    Ok(Want { reply, ..want.clone() })
}

/// Large requests are of no use on a terminal.
fn shorten(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 600;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
