use std::task::Waker;

use plinth_base::Prng;

use super::*;
use crate::conn::scan::PREFACE;

/// A socket that gives its pieces one by one, "not yet" before each, and then the end.
struct Pieces {
    pieces: Vec<Vec<u8>>,
    ready: bool,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ready = !self.ready;
        if !self.ready {
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.first_mut() {
            let len = piece.len().min(buf.remaining());
            buf.put_slice(&piece[..len]);
            piece.drain(..len);
            if piece.is_empty() {
                self.pieces.remove(0);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What h2 gets of `pieces` when it reads `buf_bytes` at once.
fn read_all(sniffed: &[u8], pieces: Vec<Vec<u8>>, buf_bytes: usize) -> (Vec<u8>, Intake) {
    let mut socket = Pieces { pieces, ready: false };
    let mut intake = Intake::new(Bytes::copy_from_slice(sniffed));
    let mut cx = Context::from_waker(Waker::noop());
    let mut got = Vec::new();
    loop {
        intake.begin_pass();
        let mut space = vec![0; buf_bytes];
        let mut buf = ReadBuf::new(&mut space);
        match intake.poll_read(&mut socket, &mut cx, &mut buf) {
            Poll::Pending => {}
            Poll::Ready(done) => {
                done.expect("the socket has no errors");
                if buf.filled().is_empty() {
                    return (got, intake);
                }
                got.extend_from_slice(buf.filled());
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, u8::try_from(payload.len()).expect("short"), kind, flags, 0, 0, 0, stream];
    out.extend(payload);
    out
}

/// A connection's bytes, with `authority` in two of three header blocks.
fn stream(authority: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x41, u8::try_from(authority.len()).expect("short")];
    block.extend(authority);
    block.extend(b"\x44\x02/a");
    [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block),
        frame(0, 1, 1, b"\x41\x08http://a"),
        frame(6, 0, 0, &[0; 8]),
        frame(1, 5, 3, &[0x83, 0x86, 0xbf, 0xbe]),
        frame(1, 5, 5, &block),
    ]
    .concat()
}

#[test]
fn authorities_are_settled_wherever_the_stream_is_cut() {
    let (from, to) = (stream(b"http://a:1"), stream(b"XXXXXXXXXX"));
    for cut in 1..from.len() {
        for buf_bytes in [1, 7, 4096] {
            let (got, mut intake) = read_all(PREFACE, vec![from[..cut].to_vec(), from[cut..].to_vec()], buf_bytes);
            assert_eq!(got, [PREFACE, &to[..]].concat(), "cut at {cut}, reads of {buf_bytes}");
            assert_eq!(intake.take_seen(), (PREFACE.len() + from.len(), 1));
            assert_eq!(intake.last_stream(), 5);
            assert!(intake.ahead.is_empty());
        }
    }
}

#[test]
fn many_small_pieces_come_out_as_one_would() {
    let mut random = Prng::new(4);
    let (from, to) = (stream(b"http://a:1"), stream(b"XXXXXXXXXX"));
    for round in 0..500 {
        let mut rest = &from[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(1 + random.index(rest.len().min(1 + round % 20)));
            pieces.push(piece.to_vec());
            rest = tail;
        }
        let (got, _) = read_all(PREFACE, pieces, 1 + random.index(40));
        assert_eq!(got, [PREFACE, &to[..]].concat());
    }
}

#[test]
fn what_sniffing_read_is_settled_too() {
    let (from, to) = (stream(b"http://a:1"), stream(b"XXXXXXXXXX"));
    for cut in 0..from.len() {
        let sniffed = [PREFACE, &from[..cut]].concat();
        let (got, _) = read_all(&sniffed, vec![from[cut..].to_vec()], 4096);
        assert_eq!(got, [PREFACE, &to[..]].concat(), "{cut} bytes behind the preface");
    }
}

#[test]
fn a_stream_that_ends_in_a_block_comes_out_to_its_last_byte() {
    let whole = stream(b"http://a:1");
    for cut in 1..whole.len() {
        let (got, _) = read_all(PREFACE, vec![whole[..cut].to_vec()], 4096);
        assert_eq!(got.len(), PREFACE.len() + cut);
    }
}

#[test]
fn a_block_without_an_end_is_held_up_to_the_limit() {
    let mut socket = Pieces { pieces: vec![], ready: false };
    let mut intake = Intake::new(Bytes::from_static(PREFACE));
    let mut cx = Context::from_waker(Waker::noop());
    // HEADERS of 1 MiB: a path that is nearly as long.
    socket.pieces.push(vec![0x10, 0, 0, 1, 0, 0, 0, 0, 1, 0x44, 0x7f, 0x81, 0xff, 0x3b]);
    socket.pieces.extend(vec![vec![b'a'; 100]; 200]);
    let mut held_max = 0;
    while !socket.pieces.is_empty() {
        let mut space = [0; 4096];
        // Nothing to be done with what comes out.
        let _ = intake.poll_read(&mut socket, &mut cx, &mut ReadBuf::new(&mut space));
        held_max = held_max.max(intake.ahead.len());
    }
    assert!(held_max <= authority::HELD_BYTES_MAX + MORE_BYTES, "{held_max} bytes were held");
    assert!(held_max >= authority::HELD_BYTES_MAX - 100, "only {held_max} bytes were held");
}
