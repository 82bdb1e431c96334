use plinth_base::Prng;

use super::*;
use crate::conn::scan::kind;

/// Values of the kinds that clients send and h2 refuses.
const REFUSED: [&str; 5] = [
    "http://127.0.0.1:2379",
    "https://[::1]:2379",
    "unix:///run/etcd/client.sock",
    "#initially=[http://10.0.0.1:2379,http://10.0.0.2:2379]",
    "%2Frun%2Fetcd.sock",
];

/// The first byte of the three forms of a literal `:authority`.
const FORMS: [u8; 3] = [0x41, 0x01, 0x11];

fn head(flags: u8, payload: &[u8]) -> FrameHead {
    FrameHead { kind: kind::HEADERS, flags, stream: 1, payload_bytes: payload.len() }
}

fn string(text: &[u8], huffman: bool) -> Vec<u8> {
    let bytes = if huffman { huffman::encode(text) } else { text.to_vec() };
    assert!(bytes.len() < 127, "the length is one byte");
    let mut out = vec![u8::try_from(bytes.len()).expect("short") | if huffman { 0x80 } else { 0 }];
    out.extend(bytes);
    out
}

/// Size update, POST, http, a path, `before`, the value, and a literal behind it.
fn block(before: &[u8], value: &[u8], huffman: bool) -> Vec<u8> {
    let mut out = vec![0x3f, 0xe1, 0x1f, 0x83, 0x86, 0x44];
    out.extend(string(b"/etcdserverpb.KV/Range", huffman));
    out.extend(before);
    out.extend(string(value, huffman));
    out.extend(b"\x5f\x10application/grpc");
    out
}

/// The block of a value after it was overwritten.
fn overwritten(before: &[u8], value: &str, huffman: bool) -> Vec<u8> {
    let len = if huffman { huffman::encode(value.as_bytes()).len() } else { value.len() };
    block(before, &vec![FILL; len], huffman)
}

fn assert_settled(flags: u8, mut payload: Vec<u8>, want: &[u8]) {
    let head = head(flags, &payload);
    assert_eq!(settle(head, &mut payload), Verdict::Settled);
    assert_eq!(payload, want);
}

#[test]
fn what_h2_would_refuse_is_overwritten_in_every_form() {
    for value in REFUSED {
        for form in FORMS {
            for huffman in [false, true] {
                let want = overwritten(&[form], value, huffman);
                assert_settled(4, block(&[form], value.as_bytes(), huffman), &want);
            }
        }
    }
}

#[test]
fn a_name_that_is_spelled_is_known_too() {
    assert_eq!(huffman::decode(AUTHORITY_CODED).as_deref(), Some(AUTHORITY));
    for form in [0x40, 0x00, 0x10] {
        for huffman in [false, true] {
            let mut before = vec![form];
            before.extend(string(AUTHORITY, huffman));
            let want = overwritten(&before, REFUSED[0], huffman);
            assert_settled(4, block(&before, REFUSED[0].as_bytes(), huffman), &want);
        }
    }
}

#[test]
fn the_new_value_is_one_that_h2_takes_and_no_larger() {
    for value in REFUSED {
        let mut coded = huffman::encode(value.as_bytes());
        overwrite_refused(&mut coded, true);
        let text = huffman::decode(&coded).expect("well coded");
        assert!(text.len() <= value.len());
        assert!(Authority::try_from(&*text).is_ok());
    }
}

#[test]
fn what_h2_takes_stays_as_it_is() {
    for value in ["localhost", "127.0.0.1:2379", "[::1]:2379", "etcd-0.etcd.svc.cluster.local:2379", "user@host:1"] {
        for huffman in [false, true] {
            let bytes = block(&[0x41], value.as_bytes(), huffman);
            assert_settled(4, bytes.clone(), &bytes);
        }
    }
}

#[test]
fn other_fields_and_values_no_field_may_have_stay_as_they_are() {
    let control = block(&[0x41], b"http://a\nb", false);
    let empty = block(&[0x41], b"", false);
    // The name has index 58, `user-agent`.
    let other = block(&[0x7a], b"http://127.0.0.1:2379", true);
    // The text is shorter than its code.
    let long_code = block(&[0x41], b"<<<<", true);
    // Behind the instructions that are looked at.
    let mut late = vec![0x83; INSTRUCTIONS_MAX];
    late.extend(block(&[0x41], b"http://a", false));
    for bytes in [control, empty, other, long_code, late] {
        assert_settled(4, bytes.clone(), &bytes);
    }
}

#[test]
fn padding_and_priority_are_stepped_over() {
    let (from, to) = (block(&[0x41], REFUSED[0].as_bytes(), true), overwritten(&[0x41], REFUSED[0], true));
    for (flags, prefix, suffix) in [
        (PADDED, &[3_u8][..], &[0_u8; 3][..]),
        (PRIORITY, &[0x80, 0, 0, 1, 200], &[]),
        (PADDED | PRIORITY, &[2, 0, 0, 0, 1, 0x41], &[0x41, 0x41]),
    ] {
        assert_settled(flags | 4, [prefix, &from, suffix].concat(), &[prefix, &to, suffix].concat());
    }
}

#[test]
fn padding_is_no_part_of_the_block() {
    let mut payload = vec![12, 0x83];
    payload.extend(b"\x41\x0ahttp://abc");
    assert_settled(PADDED | 4, payload.clone(), &payload);
    assert_settled(PADDED | 4, vec![200, 0x83], &[200, 0x83]);
}

#[test]
fn a_value_that_goes_on_in_another_frame_stays_as_it_is() {
    let whole = block(&[0x41], REFUSED[0].as_bytes(), false);
    let value_end = whole.len() - b"\x5f\x10application/grpc".len();
    assert_settled(0, whole[..value_end - 1].to_vec(), &whole[..value_end - 1]);
    assert_settled(0, whole[..value_end].to_vec(), &overwritten(&[0x41], REFUSED[0], false)[..value_end]);
}

#[test]
fn pieces_are_asked_for_until_the_value_is_whole_and_stay_untouched_till_then() {
    for huffman in [false, true] {
        let whole = block(&[0x41], REFUSED[0].as_bytes(), huffman);
        let value_end = whole.len() - b"\x5f\x10application/grpc".len();
        for cut in 0..whole.len() {
            let mut piece = whole[..cut].to_vec();
            let verdict = settle(head(4, &whole), &mut piece);
            if cut < value_end {
                assert_eq!((verdict, &piece[..]), (Verdict::NeedsMore, &whole[..cut]));
            } else {
                let want = &overwritten(&[0x41], REFUSED[0], huffman)[..cut];
                assert_eq!((verdict, &piece[..]), (Verdict::Settled, want));
            }
        }
    }
}

#[test]
fn no_more_than_the_limit_is_ever_asked_for() {
    // A path of 1 MiB that never ends.
    let mut payload = vec![0x44, 0x7f, 0x81, 0xff, 0x3f];
    let head = FrameHead { kind: kind::HEADERS, flags: 0, stream: 1, payload_bytes: 8 << 20 };
    payload.resize(HELD_BYTES_MAX - 1, b'a');
    assert_eq!(settle(head, &mut payload), Verdict::NeedsMore);
    payload.push(b'a');
    assert_eq!(settle(head, &mut payload), Verdict::Settled);
}

#[test]
fn hostile_blocks_never_panic_and_keep_their_lengths() {
    let mut random = Prng::new(31);
    for _ in 0..50_000 {
        let mut bytes = vec![0; random.index(60)];
        random.fill(&mut bytes);
        if random.chance(1, 2) {
            // A true block with some bytes changed.
            bytes = block(&[0x41], REFUSED[random.index(REFUSED.len())].as_bytes(), random.chance(1, 2));
            for _ in 0..random.index(4) {
                let at = random.index(bytes.len());
                bytes[at] = u8::try_from(random.below(256)).expect("a byte");
            }
        }
        let payload_bytes = if random.chance(1, 2) { bytes.len() } else { random.index(100) };
        let flags = u8::try_from(random.below(256)).expect("a byte");
        settle(FrameHead { kind: kind::HEADERS, flags, stream: 1, payload_bytes }, &mut bytes);
    }
}
