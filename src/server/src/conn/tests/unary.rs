use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method as HttpMethod};
use plinth_rpc::{Code, Method};

use super::{
    super::ConnEnd,
    client::{Client, frame, read, request, settle},
    rig::{Rig, run},
};

#[test]
fn a_call_is_answered_with_message_and_trailers_and_counted() {
    run(async || {
        let rig = Rig::new();
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let answer = client.call(Method::Range, b"hello").await;
        assert_eq!(answer.http_status, 200);
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.message, Some(Bytes::from_static(b"hello")));
        assert_eq!(answer.status(), (0, String::new()));
        let totals = rig.totals();
        let range = totals.method(Method::Range);
        assert_eq!((range.started, range.received, range.sent, range.handled_with(Code::Ok)), (1, 1, 1, 1));
        assert_eq!((totals.received_bytes, totals.sent_bytes), (5, 5));
        drop(client);
        assert_eq!(ending.get().await, ConnEnd::Closed);
        assert_eq!(rig.server.connection_count(), 0);
        rig.assert_quiet();
    });
}

#[test]
fn errors_of_the_service_arrive_with_code_and_exact_text() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let answer = client.call(Method::Put, b"").await;
        assert_eq!(answer.http_status, 200);
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.message, None);
        assert_eq!(answer.status(), (3, "etcdserver: key is not provided".to_owned()));
        assert_eq!(rig.handled(Method::Put, Code::InvalidArgument), 1);
        rig.assert_quiet();
    });
}

#[test]
fn metadata_reaches_the_service() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut request = request(Method::Range.path());
        request.headers_mut().insert("hasleader", HeaderValue::from_static("true"));
        request.headers_mut().insert("token", HeaderValue::from_static("secret"));
        client.raw(request, frame(b"")).await.expect("answered");
        let meta = rig.seen.meta.take().expect("the service was called");
        assert!(meta.has_leader);
        assert_eq!(meta.token(), Some("secret"));
    });
}

#[test]
fn unknown_methods_and_services_are_unimplemented_without_a_message() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        for (path, text) in [
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/what.Ever/Range", "unknown service what.Ever"),
            (Method::UserAdd.path(), "unknown method UserAdd for service etcdserverpb.Auth"),
            (Method::HealthWatch.path(), "unknown method Watch for service grpc.health.v1.Health"),
        ] {
            let answer = client.raw(request(path), frame(b"")).await.expect("answered");
            assert_eq!((answer.http_status, answer.message.clone()), (200, None));
            assert_eq!(answer.status(), (12, text.to_owned()));
        }
        assert!(rig.totals().methods.iter().all(|method| method.started == 0));
    });
}

#[test]
fn what_is_not_grpc_over_http2_is_refused_with_grpcs_status() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut plain = request("/health");
        plain.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
        let answer = client.raw(plain, Bytes::new()).await.expect("answered");
        assert_eq!(answer.http_status, 415);
        assert_eq!(answer.status(), (3, "invalid gRPC request content-type \"text/plain\"".to_owned()));
        let mut get = request(Method::Range.path());
        *get.method_mut() = HttpMethod::GET;
        let answer = client.raw(get, Bytes::new()).await.expect("answered");
        assert_eq!((answer.http_status, answer.status().0), (405, 13));
    });
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut open = client.open(request(Method::Range.path())).await.expect("open");
        // Only the header comes, and the stream stays open.
        open.body.send_data(Bytes::from_static(&[0, 0, 0x20, 0, 1]), false).expect("sent");
        let answer = read(open.answer).await.expect("answered");
        let text = "grpc: received message larger than max (2097153 vs. 2097152)";
        assert_eq!(answer.status(), (8, text.to_owned()));
        assert_eq!(client.call(Method::Range, b"next").await.status().0, 0);
        assert_eq!(rig.totals().method(Method::Range).started, 1);
    });
}

#[test]
fn a_message_at_the_limit_is_taken_in_any_number_of_pieces() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let message = Bytes::from(vec![b'm'; 2 << 20]);
        let answer = client.call(Method::Range, &message).await;
        assert_eq!(answer.status().0, 0);
        assert_eq!(answer.message, Some(message));
    });
}

#[test]
fn broken_framing_is_internal_and_compression_unimplemented() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        for (body, text) in [
            (&b""[..], "unexpected EOF"),
            (&[0, 0, 0, 0, 9, 1], "unexpected EOF"),
            (&[1, 0, 0, 0, 0], "grpc: compressed flag set with identity or empty encoding"),
            (&[7, 0, 0, 0, 0], "grpc: received unexpected payload format 7"),
        ] {
            let answer = client.raw(request(Method::Range.path()), Bytes::from_static(body)).await.expect("answered");
            assert_eq!(answer.status(), (13, text.to_owned()));
        }
        let mut zipped = request(Method::Range.path());
        zipped.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
        let answer = client.raw(zipped, frame(b"")).await.expect("answered");
        let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
        assert_eq!(answer.status(), (12, text.to_owned()));
        rig.assert_quiet();
    });
}

#[test]
fn answers_that_are_ready_together_leave_in_one_write() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(1 << 20).0).await;
        client.call(Method::Range, b"warm").await;
        let before = rig.writes.get();
        let message = [b'x'; 600];
        let mut answers = Vec::new();
        for _ in 0..64 {
            let mut open = client.open(request(Method::Range.path())).await.expect("open");
            open.body.send_data(frame(&message), true).expect("sent");
            answers.push(open.answer);
        }
        for answer in answers {
            assert_eq!(read(answer).await.expect("answered").status().0, 0);
        }
        let writes = rig.writes.get() - before;
        assert!(writes <= 4, "64 answers took {writes} writes");
    });
}

#[test]
fn calls_run_side_by_side_and_finish_in_their_own_order() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut slow = client.open(request(Method::Txn.path())).await.expect("open");
        slow.body.send_data(frame(b""), true).expect("sent");
        assert_eq!(client.call(Method::Range, b"fast").await.status().0, 0);
        assert_eq!(rig.seen.running.get(), 1);
        assert_eq!(read(slow.answer).await.expect("answered").status().0, 0);
        rig.assert_quiet();
    });
}

#[test]
fn the_limit_on_streams_makes_clients_wait() {
    run(async || {
        let rig = Rig::with(super::super::ConnConfig { streams_max: 4, ..Default::default() });
        let client = Client::new(rig.connect(64 << 10).0).await;
        client.call(Method::Range, b"the settings have arrived").await;
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = client.clone();
                tokio::task::spawn_local(async move { client.call(Method::Txn, b"").await.status().0 })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.expect("no panic"), 0);
        }
        assert_eq!(rig.seen.running_max.get(), 4);
    });
}

#[test]
fn hundreds_of_calls_echo_what_they_were_sent() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(16 << 10).0).await;
        for round in 0..5_u8 {
            let mut answers = Vec::new();
            for call in 0..100_usize {
                let message: BytesMut = (0..call * 37).map(|at| round ^ at.to_le_bytes()[0]).collect();
                let mut open = client.open(request(Method::Range.path())).await.expect("open");
                open.body.send_data(frame(&message), true).expect("sent");
                answers.push((message.freeze(), open.answer));
            }
            for (message, answer) in answers {
                assert_eq!(read(answer).await.expect("answered").message, Some(message));
            }
        }
        settle().await;
        rig.assert_quiet();
        assert_eq!(rig.handled(Method::Range, Code::Ok), 500);
    });
}
