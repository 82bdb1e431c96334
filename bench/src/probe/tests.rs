//! The probe against what is no etcd, what goes away, and a small server that answers like one.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use http::{HeaderMap, HeaderValue, Response};
use plinth_client::frame;
use plinth_rpc::etcdserverpb::StatusResponse;
use prost::Message;

use super::*;

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let endpoint = listener.local_addr().expect("it is bound");
    (listener, endpoint)
}

/// Handles every connection with `handle`, until the process ends.
fn serve(handle: fn(TcpStream)) -> SocketAddr {
    let (listener, endpoint) = listen();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || handle(stream));
        }
    });
    endpoint
}

fn probed(endpoint: SocketAddr) -> Result<Findings, Failure> {
    look(&endpoint.to_string(), Duration::from_millis(20))
}

fn refused(endpoint: SocketAddr) -> String {
    let failure = probed(endpoint).expect_err("it is no sound etcd");
    assert_eq!(failure.exit_code(), 1);
    let text = failure.to_string();
    assert!(text.starts_with(&endpoint.to_string()) && !text.contains('\n'), "{text}");
    text
}

/// Reads what comes until nothing does, and answers with `answer`.
fn answer(mut stream: TcpStream, answer: &[u8]) {
    let mut buf = [0; 4096];
    if stream.read(&mut buf).is_ok_and(|read| read > 0) {
        stream.write_all(answer).ok();
    }
}

#[test]
fn what_is_no_etcd_is_told_in_one_line() {
    let (listener, nobody) = listen();
    drop(listener);
    assert!(refused(nobody).contains(" can't be reached ("));
    let (_silent, endpoint) = listen();
    assert!(refused(endpoint).ends_with("accepts connections and says nothing: it is no etcd, or it is stopped"));
    assert!(refused(serve(drop)).contains(" it is no etcd"));
    let web = serve(|stream| answer(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    assert!(refused(web).ends_with("is an HTTP server and no etcd: \"HTTP/1.1 404 Not Found\""));
    let tls = serve(|stream| answer(stream, &[0x15, 3, 1, 0, 2, 2, 70]));
    assert!(refused(tls).contains(" speaks TLS, which the probe does not"));
    // As etcd does: not a word to those who speak plainly.
    let silent_tls = serve(|mut stream| {
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() && first == [0x16] {
            answer(stream, &[0x15, 3, 1, 0, 2, 2, 10]);
        }
    });
    assert!(refused(silent_tls).contains(" speaks TLS, which the probe does not"));
}

/// A server that answers every call so, until `calls` of them were made; then it is gone.
fn serve_grpc(status: &'static str, message: Vec<u8>, calls: usize) -> SocketAddr {
    let (listener, endpoint) = listen();
    listener.set_nonblocking(true).expect("a socket can be");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
            let (stream, _) = listener.accept().await.expect("the probe comes");
            let mut connection = h2::server::handshake(stream).await.expect("a client of HTTP/2");
            for _ in 0..calls {
                let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                let mut stream = respond.send_response(Response::new(()), false).expect("the stream is open");
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(status));
                stream.send_data(frame(&message), false).expect("the window is open");
                stream.send_trailers(trailers).expect("the stream is open");
            }
            // What was answered last still has to go out.
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        });
    });
    endpoint
}

#[test]
fn another_service_of_grpc_is_no_etcd() {
    assert!(refused(serve_grpc("12", Vec::new(), 5)).contains(" speaks gRPC and is no etcd: Unimplemented"));
    assert!(refused(serve_grpc("0", Vec::new(), 5)).ends_with("its Status makes no sense"));
}

#[test]
fn a_server_that_goes_away_meanwhile_is_told_so() {
    let status = StatusResponse { version: "3.5.1".to_owned(), leader: 1, ..Default::default() };
    let gone = refused(serve_grpc("0", status.encode_to_vec(), 1));
    assert!(gone.contains("it went away"), "{gone}");
}

#[test]
fn wrong_options_are_refused() {
    let refused = |line: &str| command(Args::new(line.split_whitespace().map(str::to_owned))).expect_err("nonsense");
    assert_eq!(refused("").to_string(), "--endpoint is missing");
    assert_eq!(refused("--endpoint 127.0.0.1:1 --seconds 0").exit_code(), 2);
    assert_eq!(refused("--endpoint 127.0.0.1:1 --frob").to_string(), "unknown argument \"--frob\"");
}
