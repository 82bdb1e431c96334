//! What a call sends besides its path.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use prost::Message;

/// Bytes before each gRPC message: a compression flag and the length, big endian.
pub const GRPC_PREFIX_BYTES: usize = 5;

/// One unary call: its body as it goes over the wire, its metadata, its deadline.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) body: Bytes,
    pub(crate) metadata: Vec<(HeaderName, HeaderValue)>,
    pub(crate) deadline: Option<Duration>,
}

impl Call {
    /// A call with the encoded form of `message`.
    #[must_use]
    pub fn message(message: &impl Message) -> Self {
        let bytes = message.encoded_len();
        let mut body = BytesMut::with_capacity(GRPC_PREFIX_BYTES + bytes);
        put_prefix(&mut body, bytes);
        message.encode(&mut body).expect("the buffer grows");
        Self::body(body.freeze())
    }

    /// A call with `message` as it is, well formed or not, behind a right prefix.
    #[must_use]
    pub fn raw(message: &[u8]) -> Self {
        Self::body(frame(message))
    }

    /// A call with `body` as it is, without any prefix of ours.
    #[must_use]
    pub fn body(body: Bytes) -> Self {
        Self { body, metadata: Vec::new(), deadline: None }
    }

    /// Adds a metadata entry; the value may be any bytes that HTTP allows.
    #[must_use]
    pub fn with_metadata(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.metadata.push((name, value));
        self
    }

    /// Gives up after `deadline`, and tells the server so.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// `message` behind the prefix that gRPC wants, uncompressed.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(GRPC_PREFIX_BYTES + message.len());
    put_prefix(&mut body, message.len());
    body.put_slice(message);
    body.freeze()
}

fn put_prefix(body: &mut BytesMut, message_bytes: usize) {
    body.put_u8(0);
    body.put_u32(u32::try_from(message_bytes).expect("a message of a test is below 4 GiB"));
}

/// The deadline as the `grpc-timeout` header says it: at most eight digits and a unit.
pub(crate) fn grpc_timeout(deadline: Duration) -> HeaderValue {
    const DIGITS_MAX: u128 = 99_999_999;
    let (amount, unit) = match deadline.as_nanos() {
        nanos if nanos <= DIGITS_MAX => (nanos, 'n'),
        _ if deadline.as_micros() <= DIGITS_MAX => (deadline.as_micros(), 'u'),
        _ => (deadline.as_millis().min(DIGITS_MAX), 'm'),
    };
    HeaderValue::try_from(format!("{amount}{unit}")).expect("digits and a letter are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        assert_eq!(grpc_timeout(Duration::from_nanos(7)), "7n");
        assert_eq!(grpc_timeout(Duration::from_secs(5)), "5000000u");
        assert_eq!(grpc_timeout(Duration::from_secs(500)), "500000m");
    }

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        assert_eq!(&frame(b"abc")[..], b"\0\0\0\0\x03abc");
    }
}
