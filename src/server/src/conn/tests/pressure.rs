use bytes::Bytes;
use plinth_rpc::{Code, Method};
use tokio::io::AsyncWriteExt;

use super::{
    super::{ConnEnd, scan::PREFACE},
    client::{Client, frame, read, request, settle},
    rig::{Rig, run},
};

#[test]
fn a_huge_chunked_answer_arrives_whole() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let answer = client.call(Method::HashKv, b"5000001").await;
        assert_eq!(answer.status().0, 0);
        assert_eq!(answer.message.map(|message| message.len()), Some(5_000_001));
        assert_eq!(rig.totals().sent_bytes, 5_000_001);
        assert_eq!(rig.handled(Method::HashKv, Code::Ok), 1);
    });
}

#[test]
fn chunks_are_made_only_as_fast_as_the_client_reads() {
    run(async || {
        let rig = Rig::new();
        let client = Client::with_window(rig.connect(64 << 10).0, 100_000).await;
        let mut open = client.open(request(Method::HashKv.path())).await.expect("open");
        open.body.send_data(frame(b"10000000"), true).expect("sent");
        let response = open.answer.await.expect("headers");
        settle().await;
        // The window is full: its 100,000 bytes are ten chunks.
        assert!(rig.seen.chunks_made.get() <= 11, "{} chunks", rig.seen.chunks_made.get());
        drop((response, open.body));
        settle().await;
        assert!(rig.seen.chunks_made.get() <= 12);
        assert_eq!(rig.handled(Method::HashKv, Code::Canceled), 1);
        assert_eq!(client.call(Method::Range, b"the connection lives").await.status().0, 0);
    });
}

#[test]
fn a_source_that_fails_in_the_middle_ends_the_call_with_its_error() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let answer = client.call(Method::Alarm, b"25000").await;
        assert_eq!(answer.status(), (15, "etcdserver: corrupt cluster".to_owned()));
        assert_eq!(rig.handled(Method::Alarm, Code::DataLoss), 1);
    });
}

#[test]
fn a_client_that_does_not_read_holds_a_bounded_number_of_answers() {
    run(async || {
        let rig = Rig::new();
        // Small windows: answers of 1 MiB wait in the server.
        let client = Client::with_window(rig.connect(64 << 10).0, 64 << 10).await;
        let mut answers = Vec::new();
        for _ in 0..200 {
            let mut open = client.open(request(Method::Hash.path())).await.expect("open");
            open.body.send_data(frame(b"1048576"), true).expect("sent");
            answers.push(open.answer);
            settle().await;
        }
        // 16 MiB of answers close the gate.
        let made = rig.seen.finished.get();
        assert!(made <= 18, "{made} answers of 1 MiB were made");
        for answer in answers {
            let message = read(answer).await.expect("answered").message.expect("a message");
            assert_eq!(message.len(), 1 << 20);
        }
        assert_eq!(rig.handled(Method::Hash, Code::Ok), 200);
    });
}

#[test]
fn a_socket_that_takes_nothing_stops_new_handlers() {
    run(async || {
        let rig = Rig::new();
        let (mut pipe, ending) = rig.connect(4 << 10);
        // The client grants large windows, but nobody reads its end of the pipe.
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
        pipe.write_all(PREFACE).await.expect("sent");
        pipe.write_all(&settings).await.expect("sent");
        for stream in (1..2000_u32).step_by(2) {
            let bytes = raw_call(stream, b"/etcdserverpb.Maintenance/Hash", b"10000");
            // The server goes on reading: it is its answers that pile up.
            pipe.write_all(&bytes).await.expect("sent");
        }
        settle().await;
        let made = rig.seen.finished.get();
        assert!(made > 0 && made <= 100, "{made} answers were made");
        drop(pipe);
        assert!(!matches!(ending.get().await, ConnEnd::Silent));
        settle().await;
        rig.assert_quiet();
    });
}

/// HEADERS and DATA of one call, headers as literals without indexing.
fn raw_call(stream: u32, path: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
    let mut literal = |name: &[u8], value: &[u8]| {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text);
        }
    };
    literal(b":path", path);
    literal(b"content-type", b"application/grpc");
    let mut out = Vec::new();
    for (kind, flags, payload) in [(1, 4, &block[..]), (0, 1, &frame(message)[..])] {
        out.extend(&u32::try_from(payload.len()).expect("short").to_be_bytes()[1..]);
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(payload);
    }
    out
}

#[test]
fn a_client_that_vanishes_takes_its_handlers_with_it() {
    run(async || {
        let rig = Rig::new();
        let (pipe, ending) = rig.connect(64 << 10);
        let client = Client::new(pipe).await;
        let mut open = client.open(request(Method::Compact.path())).await.expect("open");
        open.body.send_data(frame(b""), true).expect("sent");
        let mut half = client.open(request(Method::Range.path())).await.expect("open");
        half.body.send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false).expect("sent");
        settle().await;
        assert_eq!(rig.seen.running.get(), 1);
        drop((open, half, client));
        ending.get().await;
        settle().await;
        assert_eq!(rig.seen.dropped.get(), 1);
        assert_eq!(rig.handled(Method::Compact, Code::Canceled), 1);
        rig.assert_quiet();
    });
}

#[test]
fn a_reset_drops_the_handler_and_nothing_else() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(64 << 10).0).await;
        let mut open = client.open(request(Method::Compact.path())).await.expect("open");
        open.body.send_data(frame(b""), true).expect("sent");
        settle().await;
        assert_eq!(rig.seen.running.get(), 1);
        open.body.send_reset(h2::Reason::CANCEL);
        settle().await;
        assert_eq!(rig.seen.dropped.get(), 1);
        assert_eq!(client.call(Method::Range, b"next").await.status().0, 0);
        rig.assert_quiet();
    });
}

#[test]
fn a_thousand_resets_leave_nothing_behind() {
    run(async || {
        let rig = Rig::new();
        let client = Client::new(rig.connect(1 << 20).0).await;
        for _ in 0..1000 {
            let mut open = client.open(request(Method::Compact.path())).await.expect("open");
            open.body.send_data(frame(b""), true).expect("sent");
            settle().await;
            open.body.send_reset(h2::Reason::CANCEL);
        }
        assert_eq!(client.call(Method::Range, b"next").await.status().0, 0);
        rig.assert_quiet();
    });
}
