//! Authorities that h2's own client can't even send: raw frames.

use bytes::Bytes;
use plinth_rpc::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    super::{
        huffman,
        scan::{PREFACE, goaway, kind},
    },
    client::{frame, settle},
    rig::{Rig, run},
};

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn http2_frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    out.extend([kind, flags, 0, 0, 0, stream]);
    out.extend(payload);
    out
}

fn call(stream: u8, block: &[u8], message: &[u8]) -> Vec<u8> {
    let headers = http2_frame(kind::HEADERS, END_HEADERS, stream, block);
    [headers, http2_frame(kind::DATA, END_STREAM, stream, &frame(message))].concat()
}

fn string(text: &[u8], huffman: bool) -> Vec<u8> {
    let (bytes, flag) = if huffman { (huffman::encode(text), 0x80) } else { (text.to_vec(), 0) };
    let mut out = vec![u8::try_from(bytes.len()).expect("short") | flag];
    out.extend(bytes);
    out
}

/// Every field a literal that goes into the table, as grpc-go's first call has them.
fn first_block(authority: &[u8], huffman: bool) -> Vec<u8> {
    let field = |name: u8, value| [vec![name], string(value, huffman)].concat();
    let te = [vec![0x40], string(b"te", huffman), string(b"trailers", huffman)].concat();
    [
        vec![0x83, 0x86],
        field(0x44, Method::Range.path().as_bytes()),
        field(0x41, authority),
        field(0x5f, b"application/grpc"),
        te,
    ]
    .concat()
}

/// The same fields from the table: path, authority, content type, te.
const NEXT_BLOCK: [u8; 6] = [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];

/// What the server sends until it has nothing more to say.
async fn answers(mut pipe: DuplexStream) -> Vec<(u8, u8, Bytes)> {
    settle().await;
    // The server closes when it has read this and the calls are done.
    pipe.write_all(&goaway(0, h2::Reason::NO_ERROR, b"")).await.expect("sent");
    pipe.shutdown().await.expect("closed");
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.expect("read");
    let mut frames = Vec::new();
    let mut rest = Bytes::from(bytes);
    while !rest.is_empty() {
        let head = rest.split_to(9);
        let payload = rest.split_to(usize::from(head[1]) << 8 | usize::from(head[2]));
        frames.push((head[3], head[8], payload));
    }
    frames
}

/// Makes two calls, the second from the table, and asserts that both are answered. Pieces of `piece_bytes` go over the wire.
async fn assert_both_answered(authority: &[u8], huffman: bool, piece_bytes: usize) {
    let rig = Rig::new();
    let (mut pipe, _ending) = rig.connect(64 << 10);
    let bytes = [
        PREFACE.to_vec(),
        http2_frame(4, 0, 0, &[]),
        call(1, &first_block(authority, huffman), b"one"),
        call(3, &NEXT_BLOCK, b"two"),
    ]
    .concat();
    for piece in bytes.chunks(piece_bytes) {
        pipe.write_all(piece).await.expect("sent");
        settle().await;
    }
    let frames = answers(pipe).await;
    for (stream, message) in [(1, &b"one"[..]), (3, b"two")] {
        let want = (kind::DATA, stream, frame(message));
        assert!(frames.contains(&want), "stream {stream}, {}: {frames:?}", authority.escape_ascii());
    }
    rig.assert_quiet();
}

#[test]
fn calls_with_an_authority_that_h2_refuses_are_answered() {
    run(async || {
        for authority in [
            &b"http://127.0.0.1:2379"[..],
            b"unix:///run/etcd.sock",
            b"/run/etcd.sock",
            b"#initially=[http://10.0.0.1:2379]",
            b"a b",
            b"127.0.0.1:2379",
        ] {
            for huffman in [false, true] {
                assert_both_answered(authority, huffman, 4096).await;
            }
        }
    });
}

#[test]
fn the_same_calls_in_pieces_are_answered() {
    run(async || {
        for piece_bytes in [1, 2, 3, 5, 13, 50] {
            for huffman in [false, true] {
                assert_both_answered(b"http://127.0.0.1:2379", huffman, piece_bytes).await;
            }
        }
    });
}
