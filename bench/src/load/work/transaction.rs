//! Transactions: a key is created if it isn't there, or replaced if it is what it was when it was last seen.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use plinth_rpc::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};
use prost::Message;

use super::{
    super::{Shape, keys::Keys},
    Ask, Fate, Work, path,
    plain::value,
    template::{Template, key},
};

/// Fresh keys are numbered from the time on, so that no other run has made them: so many for each second.
const KEYS_PER_SECOND: u64 = 100_000_000;

/// A put, if the key was last changed at `revision` (0: if there is none); else, if it is wanted, what the key is.
pub fn put_if(key: &Bytes, revision: i64, put: PutRequest, else_read: bool) -> TxnRequest {
    TxnRequest {
        compare: vec![changed_at(key, revision)],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: if else_read { vec![read(key)] } else { Vec::new() },
    }
}

/// A deletion under the same condition; else what the key is.
pub fn delete_if(key: &Bytes, revision: i64) -> TxnRequest {
    let deletion = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    TxnRequest {
        compare: vec![changed_at(key, revision)],
        success: vec![RequestOp { request: Some(Request::RequestDeleteRange(deletion)) }],
        failure: vec![read(key)],
    }
}

fn changed_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn read(key: &Bytes) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(RangeRequest { key: key.clone(), ..Default::default() })) }
}

/// Whether the compare held, and the key's revision from then on: 0 if it isn't there.
pub fn outcome(message: &[u8]) -> Result<(Fate, i64), String> {
    let answer = TxnResponse::decode(message).map_err(|error| format!("an answer that is none: {error}"))?;
    if answer.succeeded {
        let header = answer.header.ok_or("an answer without a header")?;
        return Ok((Fate::Done, header.revision));
    }
    let Some(Response::ResponseRange(range)) = answer.responses.into_iter().next().and_then(|op| op.response) else {
        return Ok((Fate::Conflict, 0));
    };
    Ok((Fate::Conflict, range.kvs.first().map_or(0, |kv| kv.mod_revision)))
}

/// Creates one key after the other.
#[derive(Debug)]
pub struct Create {
    template: Template,
    next: u64,
}

impl Create {
    /// Keys and values of a shape.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let first: Bytes = key(0, shape.key_bytes).into();
        let put = PutRequest { key: first.clone(), value: value(shape.value_bytes, seed), ..Default::default() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { template: Template::new(&put_if(&first, 0, put, false), &[(&first, 0)]), next: now * KEYS_PER_SECOND }
    }
}

impl Work for Create {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["create"]
    }

    fn ask(&mut self, began: Instant, body: &mut Vec<u8>) -> Ask {
        let object = self.next;
        self.next += 1;
        self.template.write(object, began, body);
        Ask { path: path::TXN, object, wants_answer: true, ..Ask::default() }
    }

    fn answered(&mut self, _ask: &Ask, message: &[u8]) -> Result<Fate, String> {
        Ok(outcome(message)?.0)
    }
}

/// Compares and swaps. Of a key that was never seen it learns the revision by a first one that fails, unless there is no such key.
#[derive(Debug)]
pub struct Swap {
    shape: Shape,
    value: Bytes,
    keys: Keys,
    /// Of each key, as far as it is known.
    revisions: Vec<i64>,
}

impl Swap {
    /// Of some keys, none of which has been seen.
    pub fn new(shape: Shape, seed: u64, keys: Keys) -> Self {
        let count = usize::try_from(shape.keys).expect("keys are numbered in memory");
        Self { shape, value: value(shape.value_bytes, seed), keys, revisions: vec![0; count] }
    }
}

impl Work for Swap {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["compare and swap"]
    }

    fn ask(&mut self, _began: Instant, body: &mut Vec<u8>) -> Ask {
        let object = self.keys.next();
        let key: Bytes = key(object, self.shape.key_bytes).into();
        let put = PutRequest { key: key.clone(), value: self.value.clone(), ..Default::default() };
        let request = put_if(&key, self.revisions[place(object)], put, true);
        request.encode(body).expect("a vector takes everything");
        Ask { path: path::TXN, object, wants_answer: true, ..Ask::default() }
    }

    fn answered(&mut self, ask: &Ask, message: &[u8]) -> Result<Fate, String> {
        let (fate, revision) = outcome(message)?;
        let known = &mut self.revisions[place(ask.object)];
        // An older answer may come behind a newer one.
        *known = revision.max(*known);
        Ok(fate)
    }
}

fn place(object: u64) -> usize {
    usize::try_from(object).expect("keys are numbered in memory")
}

#[cfg(test)]
mod tests {
    use plinth_base::Prng;
    use plinth_rpc::{
        etcdserverpb::{RangeResponse, ResponseHeader, ResponseOp},
        mvccpb::KeyValue,
    };

    use super::{super::super::keys::Distribution, *};

    const SHAPE: Shape = Shape { keys: 1, key_bytes: 32, value_bytes: 16 };

    fn revision_of(body: &[u8]) -> Option<TargetUnion> {
        TxnRequest::decode(body).expect("well formed").compare[0].target_union.clone()
    }

    #[test]
    fn a_swap_that_fails_has_learnt_what_the_next_one_needs() {
        let mut swap = Swap::new(SHAPE, 1, Keys::new(Prng::new(1), Distribution::Uniform, 1, 1));
        let ask_for = |swap: &mut Swap| {
            let mut body = Vec::new();
            (swap.ask(Instant::now(), &mut body), revision_of(&body))
        };
        let (ask, revision) = ask_for(&mut swap);
        assert_eq!(revision, Some(TargetUnion::ModRevision(0)));
        let kv = KeyValue { mod_revision: 7, ..Default::default() };
        let range = RangeResponse { kvs: vec![kv], ..Default::default() };
        let failed = TxnResponse {
            responses: vec![ResponseOp { response: Some(Response::ResponseRange(range)) }],
            ..Default::default()
        };
        assert_eq!(swap.answered(&ask, &failed.encode_to_vec()), Ok(Fate::Conflict));
        assert_eq!(ask_for(&mut swap).1, Some(TargetUnion::ModRevision(7)));
        let header = Some(ResponseHeader { revision: 9, ..Default::default() });
        let done = TxnResponse { succeeded: true, header, ..Default::default() };
        assert_eq!(swap.answered(&ask, &done.encode_to_vec()), Ok(Fate::Done));
        assert_eq!(ask_for(&mut swap).1, Some(TargetUnion::ModRevision(9)));
        assert!(swap.answered(&ask, &[0xff]).is_err());
    }

    #[test]
    fn created_keys_are_fresh_and_compared_by_their_own_name() {
        let mut create = Create::new(SHAPE, 1);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let asks = [create.ask(Instant::now(), &mut first), create.ask(Instant::now(), &mut second)];
        assert_eq!(asks[1].object, asks[0].object + 1);
        let request = TxnRequest::decode(&second[..]).expect("well formed");
        let Some(Request::RequestPut(put)) = &request.success[0].request else { panic!("a put") };
        assert_eq!(put.key, request.compare[0].key);
        assert_eq!(put.key, key(asks[1].object, 32));
    }
}
