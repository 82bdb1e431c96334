//! A connection against bytes as servers send them.

use super::*;
use crate::load::wire::events::What;

const PATH: &str = "/etcdserverpb.KV/Put";

/// A connection whose server has introduced itself with these settings.
fn open(settings: &[(u16, u32)]) -> Connection {
    let mut connection = Connection::new("127.0.0.1:1".to_owned());
    let mut bytes = Vec::new();
    frame::put_settings(&mut bytes, settings);
    feed(&mut connection, &bytes).expect("settings");
    connection.output().clear();
    connection
}

/// Everything that comes of `bytes`, read in one piece.
fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<Events, String> {
    let mut events = Events::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let room = connection.room();
        let part = rest.len().min(room.len());
        room[..part].copy_from_slice(&rest[..part]);
        connection.received(part, &mut events)?;
        rest = &rest[part..];
    }
    Ok(events)
}

/// An answer as Go's servers send it: headers, messages, trailers.
fn answer(stream: u32, body: &[u8], status: u8) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_header(&mut out, 1, kind::HEADERS, flag::END_HEADERS, stream);
    out.push(0x88);
    for part in body.chunks(PAYLOAD_BYTES) {
        frame::put_header(&mut out, part.len(), kind::DATA, 0, stream);
        out.extend(part);
    }
    let mut trailers = vec![0x00, 11];
    trailers.extend(b"grpc-status");
    trailers.extend([1, b'0' + status]);
    frame::put_header(&mut out, trailers.len(), kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream);
    out.extend(trailers);
    out
}

/// Kind, flags, stream and payload of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some(header) = bytes.first_chunk().map(Header::read) {
        found.push((header, bytes[HEADER_BYTES..HEADER_BYTES + header.bytes].to_vec()));
        bytes = &bytes[HEADER_BYTES + header.bytes..];
    }
    found
}

#[test]
fn an_answer_is_the_same_however_its_bytes_are_cut() {
    let body = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0]].concat();
    let bytes = [answer(1, &body, 0), answer(3, &[], 8)].concat();
    for step in [1, 2, 7, 1000] {
        let mut connection = open(&[]);
        assert_eq!(connection.open(7, PATH, true), Some(1));
        assert_eq!(connection.open(9, PATH, false), Some(3));
        let mut events = Vec::new();
        for part in bytes.chunks(step) {
            let fed = feed(&mut connection, part).expect("well formed");
            for event in fed.list() {
                let message = match &event.what {
                    What::Message(range) => fed.bytes(range).to_vec(),
                    What::Ended(status, bytes) => format!("{status:?} {bytes}").into_bytes(),
                };
                events.push((event.token, String::from_utf8(message).expect("text")));
            }
        }
        let expected = [(7, "abc"), (7, ""), (7, "Ok 13"), (9, "Error(8, \"\") 0")];
        assert_eq!(events, expected.map(|(token, text)| (token, text.to_owned())), "{step} bytes at a time");
    }
}

#[test]
fn data_waits_for_the_servers_windows_and_keeps_its_order() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let id = connection.open(0, PATH, false).expect("numbers are left");
    connection.output().clear();
    connection.send(id, b"0123456789ab", false);
    connection.send(id, b"cd", true);
    let sent = frames(connection.output());
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].1.as_slice(), sent[0].0.flags), (&b"0123456789"[..], 0));
    connection.output().clear();
    let mut more = Vec::new();
    frame::put_window(&mut more, id, 3);
    feed(&mut connection, &more).expect("well formed");
    frame::put_window(&mut more, id, 30);
    feed(&mut connection, &more).expect("well formed");
    let sent = frames(connection.output());
    let payloads: Vec<_> = sent.iter().map(|(_, payload)| payload.as_slice()).collect();
    assert_eq!(payloads, [&b"ab"[..], b"c", b"d"]);
    assert!(sent[2].0.has(flag::END_STREAM) && !sent[1].0.has(flag::END_STREAM));
}

#[test]
fn long_data_goes_in_frames_that_the_server_takes() {
    let mut connection = open(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let id = connection.open(0, PATH, false).expect("numbers are left");
    connection.output().clear();
    connection.send(id, &vec![1; 40_000], true);
    let lengths: Vec<_> = frames(connection.output()).iter().map(|(header, _)| header.bytes).collect();
    assert_eq!(lengths, [16_384, 16_384, 7_232]);
}

#[test]
fn a_long_answer_is_allowed_to_go_on() {
    let mut connection = open(&[]);
    connection.open(0, PATH, false);
    connection.output().clear();
    let mut bytes = Vec::new();
    for _ in 0..40 {
        frame::put_header(&mut bytes, PAYLOAD_BYTES, kind::DATA, 0, 1);
        bytes.extend([0; PAYLOAD_BYTES]);
    }
    feed(&mut connection, &bytes).expect("well formed");
    let sent = frames(connection.output());
    assert_eq!(sent.len(), 1, "more than half of the window was used up once");
    assert_eq!((sent[0].0.kind, sent[0].0.stream), (kind::WINDOW_UPDATE, 1));
}

#[test]
fn settings_and_pings_are_acknowledged() {
    let mut connection = open(&[]);
    let mut bytes = Vec::new();
    frame::put_header(&mut bytes, 8, kind::PING, 0, 0);
    bytes.extend(b"12345678");
    frame::put_settings(&mut bytes, &[(setting::MAX_CONCURRENT_STREAMS, 3)]);
    feed(&mut connection, &bytes).expect("well formed");
    let sent = frames(connection.output());
    assert_eq!((sent[0].0.kind, sent[0].0.flags, sent[0].1.as_slice()), (kind::PING, flag::ACK, &b"12345678"[..]));
    assert_eq!((sent[1].0.kind, sent[1].0.flags, sent[1].0.bytes), (kind::SETTINGS, flag::ACK, 0));
    assert_eq!(connection.streams_max(), 3);
}

#[test]
fn a_call_that_is_broken_off_ends_and_others_go_on() {
    let mut connection = open(&[]);
    connection.open(5, PATH, false);
    connection.open(6, PATH, false);
    let mut bytes = Vec::new();
    frame::put_header(&mut bytes, 4, kind::RST_STREAM, 0, 1);
    bytes.extend(11_u32.to_be_bytes());
    bytes.extend(answer(3, &[], 0));
    let events = feed(&mut connection, &bytes).expect("well formed");
    let ended: Vec<_> = events.list().iter().map(|event| (event.token, &event.what)).collect();
    assert!(matches!(ended[0], (5, What::Ended(Status::Error(8, _), 0))));
    assert!(matches!(ended[1], (6, What::Ended(Status::Ok, 0))));
}

#[test]
fn who_is_no_server_of_http2_is_told_apart() {
    let begin = |bytes: &[u8]| {
        let mut connection = Connection::new("127.0.0.1:1".to_owned());
        feed(&mut connection, bytes).expect_err("no settings")
    };
    assert!(begin(b"HTTP/1.1 400 Bad Request\r\n").starts_with("it answers as a server of HTTP/1"));
    assert!(begin(&[21, 3, 1, 0, 2, 2, 70]).starts_with("it wants TLS"));
    assert_eq!(begin(b"SSH-2.0-x\r\n"), "it doesn't speak HTTP/2");
}

#[test]
fn broken_frames_end_the_connection_with_a_reason() {
    let broken = |header: (usize, u8, u8, u32), payload: &[u8]| {
        let mut bytes = Vec::new();
        frame::put_header(&mut bytes, header.0, header.1, header.2, header.3);
        bytes.extend(payload);
        feed(&mut open(&[]), &bytes).expect_err("it is broken")
    };
    assert_eq!(broken((20_000, kind::DATA, 0, 1), &[]), "a frame of 20000 bytes, and 16384 were agreed on");
    assert_eq!(broken((1, kind::DATA, flag::PADDED, 1), &[9]), "a broken frame of kind 0");
    assert_eq!(broken((1, kind::HEADERS, flag::END_HEADERS, 1), &[0x80]), "headers that are none");
    assert_eq!(broken((0, kind::CONTINUATION, 0, 1), &[]), "a broken frame of kind 9");
    let goodbye = [0, 0, 0, 1, 0, 0, 0, 11, b'n', b'o'];
    assert_eq!(broken((10, kind::GOAWAY, 0, 0), &goodbye), "it said goodbye with code 11 \"no\"");
}

#[test]
fn headers_in_several_frames_are_one_block() {
    let mut connection = open(&[]);
    connection.open(5, PATH, false);
    let mut bytes = Vec::new();
    frame::put_header(&mut bytes, 2, kind::HEADERS, flag::END_STREAM, 1);
    bytes.extend([0x00, 11]);
    frame::put_header(&mut bytes, 13, kind::CONTINUATION, flag::END_HEADERS, 1);
    bytes.extend(b"grpc-status\x015");
    let events = feed(&mut connection, &bytes).expect("well formed");
    assert_eq!(events.list()[0].what, What::Ended(Status::Error(5, String::new()), 0));
}
