//! Requests as bytes. A run's requests differ in their key alone: one is encoded, the others are copies of it.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use plinth_base::Prng;
use plinth_client::frame;
use plinth_rpc::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest};
use prost::Message;

use super::{Op, Shape};

/// Digits of a key's number: enough for any u64 that counts keys.
const KEY_DIGITS: usize = 19;

/// The requests of a run.
#[derive(Clone, Debug)]
pub struct Requests {
    head: Request<()>,
    body: Vec<u8>,
    /// Where the last byte of the key is followed by something else; `None` for requests without a key.
    key_end: Option<usize>,
    stamp: Option<Stamp>,
}

/// Where a request says when it was sent.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    epoch: Instant,
    at: usize,
}

/// Length of a stamp, the first bytes of a value: nanoseconds since an epoch, little endian.
pub const STAMP_BYTES: usize = 8;

impl Requests {
    /// `seed` gives the bytes of the value. `authority` is the server's address as the client knows it.
    pub fn new(op: Op, shape: Shape, seed: u64, authority: &str) -> Self {
        let key = key(0, shape.key_bytes);
        let (path, message) = match op {
            Op::Put => {
                let mut value = vec![0; shape.value_bytes];
                Prng::new(seed).fill(&mut value);
                let request = PutRequest { key: key.clone().into(), value: value.into(), ..Default::default() };
                ("/etcdserverpb.KV/Put", request.encode_to_vec())
            }
            Op::Range { serializable } => {
                let request = RangeRequest { key: key.clone().into(), serializable, ..Default::default() };
                ("/etcdserverpb.KV/Range", request.encode_to_vec())
            }
            Op::List { count_only } => {
                let all = Bytes::from_static(&[0]);
                let request = RangeRequest { key: all.clone(), range_end: all, count_only, ..Default::default() };
                ("/etcdserverpb.KV/Range", request.encode_to_vec())
            }
            Op::Empty => {
                ("/etcdserverpb.Cluster/MemberList", MemberListRequest { linearizable: false }.encode_to_vec())
            }
        };
        let body = frame(&message).to_vec();
        // Before a key there are only tags and lengths, too few bytes to look like one.
        let key_at = body.windows(key.len()).position(|window| window == key);
        Self { head: head(authority, path), key_end: key_at.map(|at| at + key.len()), body, stamp: None }
    }

    /// Puts whose values begin with the time they were sent, see [`STAMP_BYTES`]. Values must have room for it.
    pub fn stamped(mut self, epoch: Instant, shape: Shape) -> Self {
        assert!(shape.value_bytes >= STAMP_BYTES, "values of {} bytes have no room for a time", shape.value_bytes);
        // The value is the last field of a put.
        self.stamp = Some(Stamp { epoch, at: self.body.len() - shape.value_bytes });
        self
    }

    /// The head, alike for all of them.
    pub fn head(&self) -> Request<()> {
        self.head.clone()
    }

    /// The message about key `number`, framed.
    pub fn body(&self, number: u64) -> Bytes {
        let mut body = self.body.clone();
        if let Some(end) = self.key_end {
            write_digits(number, &mut body[end - KEY_DIGITS..end]);
        }
        if let Some(Stamp { epoch, at }) = self.stamp {
            let ns = u64::try_from(epoch.elapsed().as_nanos()).expect("a run is shorter than 500 years");
            body[at..at + STAMP_BYTES].copy_from_slice(&ns.to_le_bytes());
        }
        Bytes::from(body)
    }
}

/// The head of a call of `path`.
pub fn head(authority: &str, path: &str) -> Request<()> {
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.expect("scheme, address and path make a URI");
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

/// Key `number`: a `k`, and the number in decimal with leading zeroes.
pub fn key(number: u64, bytes: usize) -> Vec<u8> {
    let mut key = vec![b'0'; bytes];
    key[0] = b'k';
    write_digits(number, &mut key[bytes - KEY_DIGITS..]);
    key
}

fn write_digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("below ten");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { keys: 10, key_bytes: 32, value_bytes: 256 };

    #[test]
    fn a_copy_with_another_key_is_what_the_encoder_would_make() {
        let requests = Requests::new(Op::Put, SHAPE, 7, "127.0.0.1:1");
        let body = requests.body(1234);
        let message = PutRequest::decode(&body[5..]).expect("it is well formed");
        assert_eq!(message.key, &b"k0000000000000000000000000001234"[..]);
        assert_eq!(message.value.len(), 256);
        assert_eq!(body, frame(&message.encode_to_vec()));
        let requests = Requests::new(Op::Range { serializable: true }, SHAPE, 7, "127.0.0.1:1");
        let message = RangeRequest::decode(&requests.body(9)[5..]).expect("it is well formed");
        assert!(message.serializable && message.key.ends_with(b"0009"));
    }

    #[test]
    fn a_stamp_is_the_beginning_of_the_value_and_grows() {
        let requests = Requests::new(Op::Put, SHAPE, 7, "127.0.0.1:1");
        let stamped = requests.clone().stamped(Instant::now(), SHAPE);
        let value = |requests: &Requests| PutRequest::decode(&requests.body(3)[5..]).expect("well formed").value;
        let stamp = |value: &Bytes| u64::from_le_bytes(*value.first_chunk().expect("it is long enough"));
        let (plain, first, second) = (value(&requests), value(&stamped), value(&stamped));
        assert!(stamp(&first) <= stamp(&second));
        assert_eq!(plain[STAMP_BYTES..], first[STAMP_BYTES..]);
    }

    #[test]
    fn a_list_is_a_range_over_all_keys() {
        let requests = Requests::new(Op::List { count_only: true }, SHAPE, 7, "127.0.0.1:1");
        let message = RangeRequest::decode(&requests.body(9)[5..]).expect("it is well formed");
        assert!(message.count_only && message.key == message.range_end && message.key == b"\0"[..]);
    }

    #[test]
    fn an_empty_call_has_no_key() {
        let requests = Requests::new(Op::Empty, SHAPE, 7, "127.0.0.1:1");
        assert_eq!(&requests.body(5)[..], [0, 0, 0, 0, 0]);
    }
}
