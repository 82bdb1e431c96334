use std::time::Duration;

use plinth_rpc::{Code, Method};

use super::{
    super::{ConnConfig, ConnEnd},
    client::{Client, frame, read, request, settle},
    rig::{Rig, run},
};

#[test]
fn a_call_whose_time_is_up_ends_with_deadline_exceeded() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let began = tokio::time::Instant::now();
        let answer = client.call_within(Method::Compact, b"", "50m").await;
        assert_eq!(answer.status(), (4, "context deadline exceeded".to_owned()));
        assert!((50..60).contains(&began.elapsed().as_millis()));
        assert_eq!(rig.seen.dropped.get(), 1);
        assert_eq!(rig.handled(Method::Compact, Code::DeadlineExceeded), 1);
        assert_eq!(client.call_within(Method::Txn, b"", "2S").await.status().0, 0);
        rig.assert_quiet();
    });
}

#[test]
fn a_request_that_never_completes_runs_into_its_deadline_too() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut request = request(Method::Range.path());
        request.headers_mut().insert("grpc-timeout", http::HeaderValue::from_static("1S"));
        let mut open = client.open(request).await.expect("open");
        open.body.send_data(frame(b"half").slice(..7), false).expect("sent");
        assert_eq!(read(open.answer).await.expect("answered").status().0, 4);
        assert_eq!(rig.totals().method(Method::Range).started, 0);
    });
}

#[test]
fn silent_clients_are_pinged_and_live_ones_stay() {
    run(async || {
        let rig = Rig::with(ConnConfig { keepalive_interval: Duration::from_secs(60), ..ConnConfig::default() });
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!ending.is_over());
        assert_eq!(client.call(Method::Range, b"alive").await.status().0, 0);
    });
}

#[test]
fn a_client_that_does_not_answer_pings_is_closed() {
    run(async || {
        let rig = Rig::with(ConnConfig { keepalive_interval: Duration::from_secs(60), ..ConnConfig::default() });
        let (mut pipe, ending) = rig.connect(64 << 10);
        let began = tokio::time::Instant::now();
        tokio::io::AsyncWriteExt::write_all(&mut pipe, super::super::scan::PREFACE).await.expect("sent");
        assert_eq!(ending.get().await, ConnEnd::KeepaliveTimeout);
        assert_eq!(began.elapsed().as_secs(), 80);
    });
}

#[test]
fn a_stop_lets_calls_end_and_takes_no_new_ones() {
    run(async || {
        let rig = Rig::new();
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let mut open = client.open(request(Method::Txn.path())).await.expect("open");
        open.body.send_data(frame(b""), true).expect("sent");
        settle().await;
        let server = rig.server.clone();
        let stop = tokio::task::spawn_local(async move { server.stop().await });
        settle().await;
        assert!(!ending.is_over());
        assert!(client.open(request(Method::Range.path())).await.is_err());
        assert_eq!(read(open.answer).await.expect("answered").status().0, 0);
        assert_eq!(ending.get().await, ConnEnd::Closed);
        stop.await.expect("no panic");
    });
}

#[test]
fn a_stop_cuts_what_does_not_end_in_time() {
    run(async || {
        let rig = Rig::new();
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let mut open = client.open(request(Method::Compact.path())).await.expect("open");
        open.body.send_data(frame(b""), true).expect("sent");
        let (quiet, quiet_ending) = rig.connect(64 << 10);
        settle().await;
        let began = tokio::time::Instant::now();
        rig.server.stop().await;
        assert_eq!(began.elapsed().as_secs(), 5);
        assert_eq!(ending.get().await, ConnEnd::Cut);
        assert_eq!(quiet_ending.get().await, ConnEnd::Silent);
        drop(quiet);
        settle().await;
        rig.assert_quiet();
    });
}
