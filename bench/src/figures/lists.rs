//! Lists: how long one of 100 K keys of 1 KiB takes, both servers in turns; what plinth's memory grows by while it sends 1 GiB; what a count of 1 M
//! keys takes.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Uri, Version, header};
use plinth_client::frame;
use plinth_rpc::etcdserverpb::RangeRequest;
use prost::Message;
use serde_json::json;
use tokio::{net::TcpStream, runtime::Builder};

use super::{Figures, Part, aim::Aim};
use crate::{
    failure::Failure,
    load::{Shape, pin},
    procfs::ProcessSample,
    server::{Program, Server},
    stats::median,
};

const MIB: f64 = (1 << 20) as f64;
const LIST: Shape = Shape { keys: 100_000, key_bytes: 32, value_bytes: 1024 };
/// etcd's time in parts of plinth's.
const FASTER_MIN: f64 = 5.0;
const LIST_MEMORY_MIB_MAX: f64 = 16.0;
const LARGE_MEMORY_MIB_MAX: f64 = 32.0;
/// In ms, the way to the server and back included.
const COUNT_MS_MAX: f64 = 1.0;
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Flow control windows: wide, so that the server never waits for us.
const WINDOW_BYTES: u32 = 16 << 20;

/// One answer.
#[derive(Clone, Copy)]
struct Answer {
    seconds: f64,
    bytes: u64,
    /// The most that the server had more than before, in MiB, without the copies of branches that it made of pages it had not looked at before: they
    /// are a cache with a limit of its own.
    grown_mib: f64,
    /// Those copies, in MiB.
    branches_mib: f64,
}

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let large_dir = figures.filled_large()?;
    let lab = &figures.lab;
    let (plinth, etcd) = (lists(figures, &lab.plinth)?, lists(figures, &lab.etcd()?)?);
    let of = |answers: &[Answer], f: fn(&Answer) -> f64| {
        median(&answers.iter().map(f).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    let most = |answers: &[Answer]| answers.iter().map(|answer| answer.grown_mib).fold(0.0, f64::max);
    let (fast, slow) = (of(&plinth, |answer| answer.seconds), of(&etcd, |answer| answer.seconds));
    let mut text = format!(
        "Range of {} keys of {} bytes, {} turns, medians; the most that memory grew by in any:\n\n\
         | list | plinth | etcd | ratio |\n|---|---|---|---|\n\
         | ms | {:.1} | {:.1} | {:.2} |\n| MiB received | {:.1} | {:.1} | |\n| RssAnon + RssShmem grew by, MiB | {:.1} | {:.1} | |\n\n",
        LIST.keys,
        LIST.value_bytes,
        plinth.len(),
        1000.0 * fast,
        1000.0 * slow,
        slow / fast,
        of(&plinth, |answer| answer.bytes as f64 / MIB),
        of(&etcd, |answer| answer.bytes as f64 / MIB),
        most(&plinth),
        most(&etcd),
    );
    let mut server = lab.plinth.start(&large_dir, &[lab.server_core])?;
    server.wait_until_ready()?;
    pin(lab.load_core)?;
    let mut aims = vec![
        Aim::at_most("list of 100 K keys: plinth's time in parts of etcd's", 1.0 / FASTER_MIN, fast / slow),
        Aim::at_most("list of 100 K keys: memory, MiB", LIST_MEMORY_MIB_MAX, most(&plinth)),
    ];
    let mut json = Vec::new();
    for method in ["Range", "RangeStream"] {
        // Twice: the first one fills the page cache.
        let answers = [ask(&server, method, false)?, ask(&server, method, false)?];
        for Answer { seconds, bytes, grown_mib, branches_mib } in answers {
            let mib = bytes as f64 / MIB;
            text += &format!(
                "{method} of {} keys: {mib:.0} MiB in {seconds:.2} s, memory grew by {grown_mib:.1} MiB and {branches_mib:.1} MiB of copies of branches\n",
                figures.large.keys
            );
            json.push(json!({ "method": method, "seconds": seconds, "bytes": bytes, "grown_mib": grown_mib, "branches_mib": branches_mib }));
        }
        aims.push(Aim::at_most(format!("{method} of 1 GiB: memory, MiB"), LARGE_MEMORY_MIB_MAX, most(&answers)));
    }
    let counts =
        (0..100).map(|_| Ok(1000.0 * ask(&server, "Range", true)?.seconds)).collect::<Result<Vec<_>, Failure>>()?;
    let count = median(&counts).unwrap_or(f64::NAN);
    text += &format!("count of {} keys, as a client sees it: {count:.3} ms\n", figures.large.keys);
    aims.push(Aim::at_most("count of 1 M keys, ms", COUNT_MS_MAX, count));
    server.stop()?;
    Ok(Part { text, json: json!({ "list_seconds": [fast, slow], "large": json, "count_ms": count }), aims })
}

/// Lists of all keys, as many as there are turns, after one that fills caches.
fn lists(figures: &Figures, program: &Program) -> Result<Vec<Answer>, Failure> {
    let lab = &figures.lab;
    let filled = lab.fill("lists", program, LIST)?;
    let mut server = program.start(&filled, &[lab.server_core])?;
    server.wait_until_ready()?;
    pin(lab.load_core)?;
    ask(&server, "Range", false)?;
    let answers = (0..lab.method.turns).map(|_| ask(&server, "Range", false)).collect();
    server.stop()?;
    answers
}

/// Everything, or how much that is.
fn ask(server: &Server, method: &str, count_only: bool) -> Result<Answer, Failure> {
    let memory = || ProcessSample::read(server.pid()).map_or(0, |sample| sample.memory_bytes);
    let branches_before = branch_bytes(server)?;
    let (before, done) = (memory(), AtomicBool::new(false));
    thread::scope(|scope| {
        let highest = scope.spawn(|| {
            let mut highest = before;
            while !done.load(Ordering::Relaxed) {
                highest = highest.max(memory());
                thread::sleep(LOOK);
            }
            highest
        });
        let answer = exchange(server.endpoint(), method, count_only);
        done.store(true, Ordering::Relaxed);
        let highest = highest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (seconds, bytes) = answer?;
        let branches_mib = (branch_bytes(server)? - branches_before).max(0.0) / MIB;
        let grown_mib = (highest - before) as f64 / MIB - branches_mib;
        Ok(Answer { seconds, bytes, grown_mib, branches_mib })
    })
}

/// What plinth's copies of branches take; nothing for etcd.
fn branch_bytes(server: &Server) -> Result<f64, Failure> {
    let metrics = server.metrics()?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("plinth_tree_branch_bytes "));
    Ok(line.and_then(|number| number.trim().parse().ok()).unwrap_or(0.0))
}

/// One call on a connection of its own, whose answer is received and not kept: how long it took, and its bytes.
fn exchange(endpoint: SocketAddr, method: &str, count_only: bool) -> Result<(f64, u64), Failure> {
    let trouble = |error: &dyn std::fmt::Display| Failure::Trouble(format!("{method} of everything: {error}"));
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(|error| trouble(&error))?;
    runtime.block_on(async {
        let socket = TcpStream::connect(endpoint).await.map_err(|error| trouble(&error))?;
        socket.set_nodelay(true).map_err(|error| trouble(&error))?;
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(socket);
        let (send, connection) = handshake.await.map_err(|error| trouble(&error))?;
        // A failure of the connection reaches the call.
        let connection = tokio::spawn(async { drop(connection.await) });
        let mut send = send.ready().await.map_err(|error| trouble(&error))?;
        let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only, ..Default::default() };
        let began = Instant::now();
        let (response, mut body) = send.send_request(head(endpoint, method), false).map_err(|error| trouble(&error))?;
        body.send_data(frame(&all.encode_to_vec()), true).map_err(|error| trouble(&error))?;
        let mut body = response.await.map_err(|error| trouble(&error))?.into_body();
        let mut bytes = 0;
        while let Some(chunk) = body.data().await {
            let len = chunk.map_err(|error| trouble(&error))?.len();
            body.flow_control().release_capacity(len).map_err(|error| trouble(&error))?;
            bytes += len as u64;
        }
        let trailers = body.trailers().await.map_err(|error| trouble(&error))?;
        let seconds = began.elapsed().as_secs_f64();
        connection.abort();
        match trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")) {
            Some(status) if status == "0" => Ok((seconds, bytes)),
            other => Err(trouble(&format!("it ended with status {other:?} after {bytes} bytes"))),
        }
    })
}

fn head(endpoint: SocketAddr, method: &str) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    *head.version_mut() = Version::HTTP_2;
    *head.uri_mut() = format!("http://{endpoint}/etcdserverpb.KV/{method}").parse::<Uri>().expect("sound parts");
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    head
}
