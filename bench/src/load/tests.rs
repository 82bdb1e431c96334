//! The load against servers that are none, and against a small one.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tokio::runtime::Builder;

use super::{Clients, Op, Pace, Plan, Shape, Told, fill, run};
use crate::{args::Args, failure::Failure, results};

fn plan(endpoint: SocketAddr) -> Plan {
    Plan {
        endpoints: vec![endpoint],
        clients: Clients { connections: 2, streams: 3 },
        warmup: Duration::ZERO,
        measured: Duration::from_millis(100),
        shape: Shape { keys: 50, key_bytes: 32, value_bytes: 16 },
        ..plan_of(Op::Put)
    }
}

/// A plan of the defaults, without endpoints.
pub fn plan_of(op: Op) -> Plan {
    let plan = super::plan_of(&mut Args::new(std::iter::empty()));
    Plan { op, ..plan.expect("the defaults are a plan") }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let endpoint = listener.local_addr().expect("it is bound");
    (listener, endpoint)
}

/// A server that answers every call with this status, until the process ends.
fn serve(status: &'static str) -> SocketAddr {
    let (listener, endpoint) = listen();
    listener.set_nonblocking(true).expect("a socket can be");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_all(stream, status));
            }
        });
    });
    endpoint
}

async fn answer_all(stream: tokio::net::TcpStream, status: &'static str) {
    let mut connection = h2::server::handshake(stream).await.expect("a client of HTTP/2");
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut stream = respond.send_response(Response::new(()), false).expect("the stream is open");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        trailers.insert("grpc-message", HeaderValue::from_static("so it is"));
        stream.send_data(Bytes::from_static(&[0; 5]), false).expect("the window is open");
        stream.send_trailers(trailers).expect("the stream is open");
    }
}

fn text<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    result.expect_err("there is no server").to_string()
}

#[test]
fn a_server_that_is_not_there_goes_away_or_is_silent_gives_one_line() {
    let (listener, endpoint) = listen();
    let silent = format!("{endpoint} is no server of etcd's clients: it accepts connections and says nothing for 3 s");
    assert_eq!(text(run(&plan(endpoint))), silent);
    let closing = thread::spawn(move || {
        // The first is of the run before.
        for _ in 0..2 {
            drop(listener.accept());
        }
    });
    let closed = text(run(&plan(endpoint)));
    assert!(closed.starts_with(&format!("{endpoint} is no server of etcd's clients: ")), "{closed}");
    drop(closing.join());
    let refused = text(run(&plan(endpoint)));
    assert!(refused.starts_with(&format!("cannot connect to {endpoint}: ")), "{refused}");
}

/// A server of two connections. After `pause` it does `then`, during which nothing else goes on there; unless that says so it goes away.
fn serve_two(pause: Duration, then: impl FnOnce() -> bool + Send + 'static) -> SocketAddr {
    let (listener, endpoint) = listen();
    listener.set_nonblocking(true).expect("a socket can be");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.expect("two come");
                tokio::spawn(answer_all(stream, "0"));
            }
            tokio::time::sleep(pause).await;
            if then() {
                std::future::pending::<()>().await;
            }
            // The end of the runtime closes the connections.
        });
    });
    endpoint
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_told() {
    let endpoint = serve_two(Duration::from_millis(50), || false);
    let gone = text(run(&Plan { measured: Duration::from_secs(60), ..plan(endpoint) }));
    assert!(gone.starts_with(&format!("{endpoint} went away after ")), "{gone}");
}

#[test]
fn an_endpoint_that_knows_no_etcd_is_told() {
    let endpoint = serve("12");
    assert_eq!(text(run(&plan(endpoint))), format!("{endpoint} is no etcd: so it is"));
}

#[test]
fn an_open_loop_counts_from_when_requests_were_due() {
    let plan = Plan { pace: Pace::Open { rate: 2000.0 }, ..plan(serve("0")) };
    let outcome = run(&plan).expect("it answers");
    // As many as were due, whatever this machine does meanwhile.
    assert!(
        (190..=220).contains(&outcome.requests()) || outcome.elapsed > Duration::from_millis(105),
        "{}",
        outcome.requests()
    );
    assert_eq!(outcome.unanswered, 0);
}

#[test]
fn what_succeeds_is_counted_and_each_second_has_its_part() {
    let outcome = run(&plan(serve("0"))).expect("it answers");
    assert!(outcome.requests() > 0 && outcome.errors.is_empty());
    assert_eq!(outcome.series.iter().sum::<u64>(), outcome.requests());
    outcome.expect_no_errors().expect("there are none");
    let told = Told::of(&outcome);
    let again: Told = results::decode(&results::encode(&told), "results").expect("it was just made");
    assert_eq!((&again, again.to_text()), (&told, told.to_text()));
}

#[test]
fn what_fails_is_counted_by_code_and_fails_a_filling() {
    let endpoint = serve("8");
    let outcome = run(&plan(endpoint)).expect("it answers");
    assert_eq!(outcome.requests(), 0);
    let errors = &outcome.errors[0];
    assert_eq!((errors.code, errors.message.as_str()), (8, "so it is"));
    assert!(errors.count > 0 && outcome.expect_no_errors().is_err());
    let filled = text(fill(&plan(endpoint)));
    assert_eq!(filled, format!("filling {endpoint}: a put failed: \"so it is\""));
}

#[test]
fn a_server_that_stops_for_half_a_second_shows_in_an_open_loop() {
    const STOP: Duration = Duration::from_millis(500);
    let endpoint = serve_two(Duration::from_millis(700), || {
        thread::sleep(STOP);
        true
    });
    let measured = Duration::from_secs(2);
    let outcome = run(&Plan { pace: Pace::Open { rate: 1000.0 }, measured, ..plan(endpoint) }).expect("it answers");
    // A quarter of all requests was due while it stood still, and waited for half of that time on average.
    let p99 = outcome.latencies.quantile_us(0.99).expect("there are 2000");
    assert!(p99 > 400_000.0, "{p99} µs");
    assert!(outcome.delayed > 300, "6 clients can't have that many under way: {}", outcome.delayed);
}
