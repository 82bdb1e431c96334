//! Whether an answer is one that the model allows: equal, but for what etcd leaves open, the order of ties in a sort.

use std::cmp::Ordering;

use super::{KeyValue, Range, Request, Response, SortTarget, Txn, range::compare};

/// Whether `got` answers `request` as `expected` does.
#[must_use]
pub fn agree(request: &Request, expected: &Response, got: &Response) -> bool {
    match (request, expected, got) {
        (Request::Range(range), Response::Range { kvs: expected_kvs, .. }, Response::Range { kvs, .. }) => {
            same_head(expected, got) && agree_sorted(range, expected_kvs, kvs)
        }
        (
            Request::Txn(txn),
            Response::Txn { revision, succeeded, responses },
            Response::Txn { revision: got_revision, succeeded: got_succeeded, responses: got_responses },
        ) => {
            (revision, succeeded) == (got_revision, got_succeeded)
                && agree_all(txn, *succeeded, responses, got_responses)
        }
        _ => expected == got,
    }
}

fn agree_all(txn: &Txn, succeeded: bool, expected: &[Response], got: &[Response]) -> bool {
    let requests = if succeeded { &txn.success } else { &txn.failure };
    expected.len() == got.len()
        && requests.iter().zip(expected.iter().zip(got)).all(|(request, (expected, got))| agree(request, expected, got))
}

/// Everything of a range's response but its pairs.
fn same_head(expected: &Response, got: &Response) -> bool {
    let head = |response: &Response| match response {
        Response::Range { revision, more, count, kvs } => Some((*revision, *more, *count, kvs.len())),
        _ => None,
    };
    head(expected) == head(got)
}

fn agree_sorted(range: &Range, expected: &[KeyValue], got: &[KeyValue]) -> bool {
    let target = range.sort_target;
    // Values that were stripped can't be compared any more: the whole answer is then one tie.
    let order = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Value if range.keys_only => Ordering::Equal,
        _ => compare(target, a, b),
    };
    if target == SortTarget::Key {
        return expected == got;
    }
    let (Some(last), true) = (expected.last(), expected.len() == got.len()) else { return expected == got };
    // Which of those that tie with the last one fell behind the limit is open; all others must be there.
    let certain = |kvs: &[KeyValue]| {
        let mut kvs: Vec<_> =
            kvs.iter().filter(|kv| range.limit <= 0 || order(kv, last) != Ordering::Equal).cloned().collect();
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    };
    expected.iter().zip(got).all(|(a, b)| order(a, b) == Ordering::Equal) && certain(expected) == certain(got)
}
