//! Puts, ranges, lists, counts and empty calls: the answer is not looked at.

use std::time::Instant;

use bytes::Bytes;
use plinth_base::Prng;
use plinth_rpc::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest};

use super::{
    super::{Op, Plan, keys::Keys},
    Ask, Fate, Work, path,
    template::{Template, key},
};

/// Requests of one kind.
#[derive(Debug)]
pub struct Plain {
    op: Op,
    path: &'static str,
    template: Template,
    keys: Keys,
    /// Keys are rounded down to a multiple of it: where prefixes begin.
    step: u64,
}

impl Plain {
    /// Of an op that has such.
    pub fn new(op: Op, plan: &Plan, keys: Keys, stamps_from: Option<Instant>) -> Self {
        let (shape, first) = (plan.shape, key(0, plan.shape.key_bytes));
        let range = |key: Vec<u8>, range_end: Vec<u8>| RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: plan.limit,
            ..Default::default()
        };
        let (mut path, mut step) = (path::RANGE, 1);
        let template = match op {
            Op::Range { serializable } => {
                let request = RangeRequest { serializable, limit: 0, ..range(first.clone(), Vec::new()) };
                Template::new(&request, &[(&first, 0)])
            }
            Op::Prefix { digits, serializable } => {
                step = 10_u64.pow(digits);
                // A colon comes behind the nine.
                let last = key(step - 1, shape.key_bytes);
                let end = [&last[..], b":"].concat();
                let request = RangeRequest { serializable, ..range(first.clone(), end) };
                let keys = [(&first[..], 0), (&last[..], step - 1)];
                Template::new(&request, if digits == 0 { &keys[..1] } else { &keys })
            }
            Op::List { count_only } => {
                let request = RangeRequest { count_only, ..range(vec![0], vec![0]) };
                Template::new(&request, &[])
            }
            Op::Empty => {
                path = path::MEMBER_LIST;
                Template::new(&MemberListRequest { linearizable: false }, &[])
            }
            _ => {
                path = path::PUT;
                let value = value(shape.value_bytes, plan.seed);
                let template = Template::new(
                    &PutRequest { key: first.clone().into(), value, ..Default::default() },
                    &[(&first, 0)],
                );
                stamps_from.map_or(template.clone(), |epoch| template.stamped(shape.value_bytes, epoch))
            }
        };
        Self { op, path, template, keys, step }
    }
}

impl Work for Plain {
    fn kinds(&self) -> Vec<&'static str> {
        vec![self.op.name()]
    }

    fn ask(&mut self, began: Instant, body: &mut Vec<u8>) -> Ask {
        let object = self.keys.next() / self.step * self.step;
        self.template.write(object, began, body);
        Ask { path: self.path, object, ..Ask::default() }
    }

    fn answered(&mut self, _ask: &Ask, _message: &[u8]) -> Result<Fate, String> {
        Ok(Fate::Done)
    }
}

/// Bytes that no compression makes short.
pub fn value(bytes: usize, seed: u64) -> Bytes {
    let mut value = vec![0; bytes];
    Prng::new(seed).fill(&mut value);
    value.into()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{
        super::super::{Shape, tests::plan_of},
        *,
    };

    fn asked(op: Op, limit: i64) -> RangeRequest {
        let mut plan = plan_of(op);
        (plan.limit, plan.shape) = (limit, Shape { keys: 1000, key_bytes: 32, value_bytes: 16 });
        let keys = Keys::new(Prng::new(3), plan.distribution, 1000, 1);
        let mut body = Vec::new();
        let ask = Plain::new(op, &plan, keys, None).ask(Instant::now(), &mut body);
        assert_eq!(ask.path, path::RANGE);
        RangeRequest::decode(&body[..]).expect("well formed")
    }

    #[test]
    fn a_prefix_holds_the_keys_that_share_all_but_the_last_digits() {
        let request = asked(Op::Prefix { digits: 2, serializable: true }, 7);
        assert!(request.serializable && request.limit == 7);
        assert!(request.key.ends_with(b"00") && request.range_end.ends_with(b"99:"));
        let (key, end) = (&request.key[..], &request.range_end[..]);
        assert_eq!(key[..30], end[..30]);
        let inside = [&key[..30], b"57"].concat();
        assert!(key <= &inside[..] && &inside[..] < end);
    }

    #[test]
    fn a_list_is_a_range_over_all_keys() {
        let request = asked(Op::List { count_only: true }, 0);
        assert!(request.count_only && request.key == request.range_end && request.key == b"\0"[..]);
    }
}
