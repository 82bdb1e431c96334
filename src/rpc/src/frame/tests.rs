use plinth_base::Prng;

use super::*;
use crate::etcdserverpb::PutRequest;

fn put(value_bytes: usize) -> PutRequest {
    PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from(vec![7; value_bytes]), ..Default::default() }
}

#[test]
fn a_message_within_a_chunk_is_a_slice_of_it() {
    let frame = Frame::encode(&put(100));
    let chunk = frame.clone().into_bytes();
    let at = chunk.as_ptr();
    let mut decoder = FrameDecoder::new(1000);
    decoder.push(chunk);
    let message = decoder.next_message().expect("well formed").expect("complete");
    assert_eq!(message, frame.message());
    assert_eq!(message.as_ptr() as usize, at as usize + FRAME_HEADER_BYTES);
    assert_eq!(decoder.next_message(), Ok(None));
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn header_and_length_agree_with_the_message() {
    let frame = Frame::encode(&put(300));
    let len = u32::try_from(frame.message_len()).expect("small");
    assert_eq!(frame.into_bytes()[..5], Frame::header(len));
    assert_eq!(Frame::build(0, |_| ()).into_bytes(), Bytes::from_static(&[0; 5]));
}

#[test]
fn too_large_is_refused_from_the_header_with_grpcs_text() {
    let mut decoder = FrameDecoder::new(10);
    decoder.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
    let status = decoder.next_message().expect_err("over the limit").status();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert_eq!(status.message, "grpc: received message larger than max (11 vs. 10)");
    let mut decoder = FrameDecoder::new(10);
    decoder.push(Bytes::from_static(&[0, 0, 0, 0, 10]));
    assert_eq!(decoder.next_message(), Ok(None));
}

#[test]
fn compressed_and_unknown_flags_are_refused() {
    for (flag, want) in [
        (1, "grpc: compressed flag set with identity or empty encoding"),
        (9, "grpc: received unexpected payload format 9"),
    ] {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(Bytes::from(vec![flag, 0, 0, 0, 0]));
        let status = decoder.next_message().expect_err("bad flag").status();
        assert_eq!((status.code, status.message.as_ref()), (Code::Internal, want));
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_truncated() {
    for cut in 1..8 {
        let mut decoder = FrameDecoder::new(10);
        decoder.push(Bytes::copy_from_slice(&[0, 0, 0, 0, 3, 1, 2, 3][..cut]));
        assert_eq!(decoder.next_message(), Ok(None));
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}

/// Cuts `stream` at random places and gives back all messages.
fn decode_in_pieces(stream: &Bytes, max: usize, random: &mut Prng) -> Result<Vec<Bytes>, FrameError> {
    let mut decoder = FrameDecoder::new(max);
    let mut rest = stream.clone();
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = 1 + random.index(rest.len().min(40));
        decoder.push(rest.split_to(len));
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
        assert!(decoder.buffered_bytes() <= FRAME_HEADER_BYTES + max);
    }
    decoder.finish()?;
    Ok(messages)
}

#[test]
fn messages_survive_any_cut_into_chunks() {
    let mut random = Prng::new(11);
    for _ in 0..500 {
        let wanted: Vec<_> = (0..random.index(6)).map(|_| Frame::encode(&put(random.index(90)))).collect();
        let stream: BytesMut = wanted.iter().flat_map(|frame| frame.clone().into_bytes()).collect();
        let got = decode_in_pieces(&stream.freeze(), 200, &mut random).expect("well formed");
        assert_eq!(got, wanted.iter().map(Frame::message).collect::<Vec<_>>());
    }
}

#[test]
fn hostile_bytes_never_panic_and_never_exceed_the_limit() {
    let mut random = Prng::new(12);
    for _ in 0..20_000 {
        let mut bytes = vec![0; random.index(64)];
        random.fill(&mut bytes);
        // Mostly plausible headers, so that the decoder gets past them.
        if let Some(header) = bytes.first_chunk_mut::<5>().filter(|_| random.chance(3, 4)) {
            *header = [0, 0, 0, 0, header[4] % 32];
        }
        if let Ok(messages) = decode_in_pieces(&Bytes::from(bytes), 30, &mut random) {
            for message in messages {
                assert!(message.len() <= 30);
                // Whatever it is, decoding it is an answer, never a panic.
                let _ = <crate::etcdserverpb::TxnRequest as prost::Message>::decode(message);
            }
        }
    }
}
