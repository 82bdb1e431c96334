//! Requests as bytes. Those of a kind differ in their key alone: one is encoded, the others are copies of it.

use std::time::Instant;

use prost::Message;

/// Digits of a key's number: enough for any u64 that counts keys.
const KEY_DIGITS: usize = 19;
/// Length of a stamp, the first bytes of a value: nanoseconds since an epoch, little endian.
pub const STAMP_BYTES: usize = 8;

/// A message of which copies are made.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the digits of keys end, of every key that is in it, and how far each is behind the request's key.
    keys: Vec<(usize, u64)>,
    /// Where the time goes.
    stamp: Option<(usize, Instant)>,
}

impl Template {
    /// Copies of `message`, in which keys are to be replaced wherever they are: each as it is in `message`, which is about key 0, and how far it
    /// is behind the key that the request is about.
    pub fn new(message: &impl Message, keys: &[(&[u8], u64)]) -> Self {
        let bytes = message.encode_to_vec();
        let mut found = Vec::new();
        for (key, distance) in keys {
            // Between keys there are only tags, lengths and values: too little, or too random, to look like one.
            let places = bytes.windows(key.len()).enumerate().filter(|(_, window)| window == key);
            found.extend(places.map(|(at, _)| (at + key.len(), *distance)));
        }
        Self { bytes, keys: found, stamp: None }
    }

    /// The last `value_bytes` bytes are a value, which begins with the time since `epoch`.
    pub fn stamped(mut self, value_bytes: usize, epoch: Instant) -> Self {
        assert!(value_bytes >= STAMP_BYTES, "values of {value_bytes} bytes have no room for a time");
        self.stamp = Some((self.bytes.len() - value_bytes, epoch));
        self
    }

    /// Writes the copy about key `number`, made at `now`.
    pub fn write(&self, number: u64, now: Instant, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        let copy = &mut out[at..];
        for (end, distance) in &self.keys {
            write_digits(number + distance, &mut copy[end - KEY_DIGITS..*end]);
        }
        if let Some((at, epoch)) = self.stamp {
            let ns = u64::try_from(now.saturating_duration_since(epoch).as_nanos());
            let ns = ns.expect("a run is shorter than 500 years");
            copy[at..at + STAMP_BYTES].copy_from_slice(&ns.to_le_bytes());
        }
    }
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
    use bytes::Bytes;
    use plinth_rpc::etcdserverpb::PutRequest;

    use super::*;

    fn put(number: u64) -> PutRequest {
        PutRequest { key: key(number, 32).into(), value: vec![7; 16].into(), ..Default::default() }
    }

    #[test]
    fn a_copy_with_another_key_is_what_the_encoder_would_make() {
        let template = Template::new(&put(0), &[(&key(0, 32), 0)]);
        let mut out = vec![1, 2, 3];
        template.write(1234, Instant::now(), &mut out);
        assert_eq!(out[..3], [1, 2, 3]);
        assert_eq!(out[3..], put(1234).encode_to_vec());
        assert_eq!(put(1234).key, &b"k0000000000000000000000000001234"[..]);
    }

    #[test]
    fn a_stamp_is_the_beginning_of_the_value() {
        let epoch = Instant::now();
        let template = Template::new(&put(0), &[(&key(0, 32), 0)]).stamped(16, epoch);
        let mut out = Vec::new();
        template.write(3, epoch + std::time::Duration::from_nanos(99), &mut out);
        let value: Bytes = PutRequest::decode(&out[..]).expect("well formed").value;
        assert_eq!(value[..STAMP_BYTES], 99_u64.to_le_bytes());
        assert_eq!(value[STAMP_BYTES..], [7; 8]);
    }

    #[test]
    fn a_message_without_a_key_stays_as_it_is() {
        let mut out = Vec::new();
        Template::new(&put(5), &[]).write(9, Instant::now(), &mut out);
        assert_eq!(out, put(5).encode_to_vec());
    }
}
