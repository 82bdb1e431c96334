use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use plinth_rpc::{Code, Method};

use super::{
    super::{ConnConfig, ConnEnd},
    client::{Client, Messages, frame, read, request, settle},
    rig::{Rig, run},
};

#[test]
fn messages_of_a_stream_are_answered_one_by_one_until_the_client_ends_it() {
    run(async || {
        let rig = Rig::new();
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let mut open = client.open(request(Method::LeaseKeepAlive.path())).await.expect("opened");
        open.body.send_data(frame(b"one"), false).expect("sent");
        let mut messages = Messages::of(open.answer).await.expect("the head comes with the first message");
        assert_eq!(messages.next().await.expect("sound"), Some(Bytes::from_static(b"one")));
        // Two in one frame of HTTP/2, and one in pieces.
        let (two, three) = (frame(b"two"), frame(b"three"));
        open.body.send_data(Bytes::from([&two[..], &three[..4]].concat()), false).expect("sent");
        assert_eq!(messages.next().await.expect("sound"), Some(Bytes::from_static(b"two")));
        open.body.send_data(three.slice(4..), false).expect("sent");
        assert_eq!(messages.next().await.expect("sound"), Some(Bytes::from_static(b"three")));
        assert_eq!(rig.seen.running.get(), 1);
        open.body.send_data(Bytes::new(), true).expect("sent");
        assert_eq!(messages.next().await.expect("sound"), None);
        assert_eq!(messages.status().await.expect("trailers"), 0);
        let totals = rig.totals();
        let counted = totals.method(Method::LeaseKeepAlive);
        assert_eq!((counted.started, counted.received, counted.sent, counted.handled_with(Code::Ok)), (1, 3, 3, 1));
        drop((client, messages, open.body));
        assert_eq!(ending.get().await, ConnEnd::Closed);
        rig.assert_quiet();
    });
}

#[test]
fn a_stream_that_ends_without_a_message_has_a_status_all_the_same() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let answer = client.raw(request(Method::LeaseKeepAlive.path()), Bytes::new()).await.expect("answered");
        assert_eq!((answer.http_status, answer.message.clone(), answer.status().0), (200, None, 0));
        let answer = client.call(Method::RangeStream, b"").await;
        assert_eq!(
            (answer.message.clone(), answer.status()),
            (None, (3, "etcdserver: key is not provided".to_owned()))
        );
        rig.assert_quiet();
    });
}

#[test]
fn an_error_in_the_middle_comes_behind_what_was_sent() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let answer = client.call(Method::Snapshot, b"").await;
        assert_eq!(answer.message, Some(Bytes::from_static(b"one")));
        assert_eq!(answer.status(), (15, "etcdserver: corrupt cluster".to_owned()));
        assert_eq!(rig.handled(Method::Snapshot, Code::DataLoss), 1);
    });
}

#[test]
fn broken_frames_end_a_stream_with_grpcs_status() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        for (body, status) in [
            (Bytes::from_static(b"\0\0\0\0\x09cut"), (13, "unexpected EOF")),
            (Bytes::from_static(b"\x01\0\0\0\0"), (13, "grpc: compressed flag set with identity or empty encoding")),
            (
                Bytes::from_static(b"\0\xff\0\0\0"),
                (8, "grpc: received message larger than max (4278190080 vs. 2097152)"),
            ),
        ] {
            let whole = Bytes::from([&frame(b"fine")[..], &body[..]].concat());
            let answer = client.raw(request(Method::LeaseKeepAlive.path()), whole).await.expect("answered");
            assert_eq!(answer.message, Some(Bytes::from_static(b"fine")));
            assert_eq!(answer.status(), (status.0, status.1.to_owned()));
        }
        rig.assert_quiet();
    });
}

#[test]
fn a_client_that_does_not_read_stops_its_stream_and_no_other() {
    run(async || {
        let rig = Rig::new();
        let (pipe, _ending) = rig.connect(1 << 20);
        let client = Client::with_window(pipe, 64 << 10).await;
        let mut open = client.open(request(Method::Observe.path())).await.expect("opened");
        open.body.send_data(frame(b"1000"), true).expect("sent");
        let mut messages = Messages::of(open.answer).await.expect("answered");
        for _ in 0..100 {
            settle().await;
        }
        let made = rig.seen.chunks_made.get();
        assert!(made < 20, "{made} messages were made for a window of 64 KiB");
        assert_eq!(client.call(Method::Range, b"other").await.message, Some(Bytes::from_static(b"other")));
        let mut count = 0;
        while let Some(message) = messages.next().await.expect("sound") {
            assert_eq!(message.len(), 10_000);
            count += 1;
        }
        assert_eq!((count, messages.status().await.expect("trailers")), (1000, 0));
        rig.assert_quiet();
    });
}

#[test]
fn the_handler_of_a_stream_goes_when_its_client_does() {
    run(async || {
        let rig = Rig::new();
        let (pipe, _ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        // One resets its open stream, one has said that it sends no more, one closes the connection.
        for (dropped, half_closed) in [(1, false), (2, true)] {
            let mut open = client.open(request(Method::Watch.path())).await.expect("opened");
            open.body.send_data(frame(b""), half_closed).expect("sent");
            let mut messages = Messages::of(open.answer).await.expect("answered");
            assert_eq!(messages.next().await.expect("sound"), Some(Bytes::from_static(b"up")));
            open.body.send_reset(h2::Reason::CANCEL);
            settle().await;
            assert_eq!((rig.seen.dropped.get(), rig.seen.running.get()), (dropped, 0));
        }
        let open = client.open(request(Method::Watch.path())).await.expect("opened");
        settle().await;
        assert_eq!(rig.seen.running.get(), 1);
        drop((client, open));
        settle().await;
        assert_eq!(rig.seen.dropped.get(), 3);
        assert_eq!(rig.handled(Method::Watch, Code::Canceled), 3);
        rig.assert_quiet();
    });
}

#[test]
fn a_streams_time_runs_out_and_the_drain_cuts_it() {
    run(async || {
        let rig = Rig::with(ConnConfig { drain_timeout: Duration::from_secs(2), ..ConnConfig::default() });
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let mut limited = request(Method::Watch.path());
        limited.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1S"));
        let answer = client.raw(limited, frame(b"")).await.expect("answered");
        assert_eq!((answer.message.as_deref(), answer.status().0), (Some(&b"up"[..]), 4));
        let open = client.open(request(Method::Watch.path())).await.expect("opened");
        settle().await;
        rig.server.stop().await;
        assert_eq!(ending.get().await, ConnEnd::Cut);
        assert!(read(open.answer).await.is_err(), "the connection is gone");
        settle().await;
        rig.assert_quiet();
    });
}
