//! gRPC's message frames: the same messages and the same end, wherever the stream is cut into chunks.

use bytes::Bytes;
use plinth_base::{Prng, crc32c};
use plinth_rpc::{FRAME_HEADER_BYTES, Frame, FrameDecoder, FrameError, parse_timeout};

use crate::target::Target;

const MESSAGE_BYTES_MAX: usize = 1000;
const CHUNK_BYTES_MAX: usize = 50;

/// The target.
pub(super) struct Frames;

impl Target for Frames {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let frames = |sizes: &[usize]| -> Vec<u8> {
            let frame = |size: &usize| Frame::build(*size, |out| out.resize(out.len() + size, b'm')).into_bytes();
            sizes.iter().flat_map(frame).collect()
        };
        vec![frames(&[0]), frames(&[7, 0, 300]), frames(&[MESSAGE_BYTES_MAX])]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        // Another decoder of a client's bytes; anything is an answer.
        drop(parse_timeout(&input[..input.len().min(12)]));
        let whole = decode([Bytes::copy_from_slice(input)]);
        let mut prng = Prng::new(crc32c(0, input).into());
        let mut rest = Bytes::copy_from_slice(input);
        let chunks = std::iter::from_fn(|| {
            let len = rest.len().min(1 + prng.index(CHUNK_BYTES_MAX));
            (len > 0).then(|| rest.split_to(len))
        });
        let cut = decode(chunks);
        assert_eq!(whole, cut, "it matters where the stream is cut");
        whole.1.is_ok() && !whole.0.is_empty()
    }
}

/// All messages, and how the stream ended.
fn decode(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, Result<(), FrameError>) {
    let (mut decoder, mut messages) = (FrameDecoder::new(MESSAGE_BYTES_MAX), Vec::new());
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    assert!(message.len() <= MESSAGE_BYTES_MAX);
                    messages.push(message);
                }
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
        assert!(decoder.buffered_bytes() < FRAME_HEADER_BYTES + MESSAGE_BYTES_MAX, "more than one message is held");
    }
    let end = decoder.finish();
    (messages, end)
}
