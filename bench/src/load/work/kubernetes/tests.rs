//! The requests against a model of a store, one after the other.

use std::collections::BTreeMap;

use plinth_rpc::{
    etcdserverpb::{
        RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};

use super::{
    super::super::{Op, tests::plan_of},
    *,
};

/// Keys, each with the revision and the lease of its last change.
#[derive(Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<Bytes, (i64, i64)>,
}

impl Store {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision, ..Default::default() })
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let end =
            if request.range_end.is_empty() { [&request.key[..], &[0]].concat() } else { request.range_end.to_vec() };
        let all = self.keys.range(request.key.clone()..Bytes::from(end)).map(|(key, (mod_revision, _))| KeyValue {
            key: key.clone(),
            mod_revision: *mod_revision,
            ..Default::default()
        });
        let all: Vec<_> = all.collect();
        let limit = if request.limit == 0 { all.len() } else { request.limit as usize };
        let (count, kvs) = (all.len() as i64, all.into_iter().take(limit).collect());
        RangeResponse { header: self.header(), count, kvs, ..Default::default() }
    }

    fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let compare = &request.compare[0];
        let is_at = self.keys.get(&compare.key).map_or(0, |(revision, _)| *revision);
        let succeeded = compare.target_union == Some(TargetUnion::ModRevision(is_at));
        let mut responses = Vec::new();
        for op in if succeeded { &request.success } else { &request.failure } {
            match op.request.as_ref().expect("an op") {
                Request::RequestPut(put) => {
                    self.revision += 1;
                    self.keys.insert(put.key.clone(), (self.revision, put.lease));
                }
                Request::RequestDeleteRange(deletion) => {
                    self.revision += 1;
                    assert!(self.keys.remove(&deletion.key).is_some());
                }
                Request::RequestRange(range) => {
                    responses.push(ResponseOp { response: Some(Response::ResponseRange(self.range(range))) });
                }
                other => panic!("no apiserver sends {other:?}"),
            }
        }
        TxnResponse { header: self.header(), succeeded, responses }
    }

    fn answer(&mut self, ask: &Ask, body: &[u8]) -> Vec<u8> {
        if ask.path == path::TXN {
            let request = TxnRequest::decode(body).expect("well formed");
            return self.txn(&request).encode_to_vec();
        }
        self.range(&RangeRequest::decode(body).expect("well formed")).encode_to_vec()
    }

    fn below(&self, resource: &str) -> usize {
        let prefix = format!("/registry/{resource}/");
        self.keys.keys().filter(|key| key.starts_with(prefix.as_bytes())).count()
    }
}

fn cluster() -> Kubernetes {
    let mut plan = plan_of(Op::Kubernetes);
    plan.shape.keys = 1200;
    Kubernetes::new(&plan, Prng::new(5), Leases::made_up(vec![7, 8]), Instant::now())
}

#[test]
fn a_cluster_comes_to_its_size_and_stays_there_without_losing_a_compare() {
    let (mut cluster, mut store) = (cluster(), Store::default());
    let mut counts = [0; KINDS.len()];
    for _ in 0..20_000 {
        let mut body = Vec::new();
        let ask = cluster.ask(Instant::now(), &mut body);
        let answer = store.answer(&ask, &body);
        let message = if ask.wants_answer { &answer[..] } else { &[] };
        assert_eq!(cluster.answered(&ask, message), Ok(Fate::Done), "{}", KINDS[ask.kind].0);
        counts[ask.kind] += 1;
    }
    assert!((1150..=1200).contains(&store.below("pods")), "{}", store.below("pods"));
    assert_eq!((store.below("leases"), store.below("events")), (40, counts[EVENT]));
    assert!(counts.iter().all(|count| *count > 30), "every kind has its turn: {counts:?}");
    let leases =
        store.keys.iter().filter(|(key, _)| key.starts_with(b"/registry/events/")).map(|(_, (_, lease))| *lease);
    assert!(leases.into_iter().all(|lease| lease == 7 || lease == 8));
}

#[test]
fn a_list_goes_on_behind_its_last_key_at_the_revision_of_its_first_page() {
    let (mut cluster, mut store) = (cluster(), Store::default());
    for number in 0..1200 {
        store.revision += 1;
        store.keys.insert(cluster.key("pods", number), (store.revision, 0));
    }
    let mut pages = Vec::new();
    for _ in 0..3 {
        let (key, revision) = cluster.pages.pop_front().unwrap_or_else(|| (cluster.prefix("pods").into(), 0));
        pages.push((key.clone(), revision));
        let request = RangeRequest { limit: PAGE, ..cluster.range(key, revision) };
        let ask = Ask { kind: LIST, path: path::RANGE, object: 0, wants_answer: true };
        cluster.answered(&ask, &store.range(&request).encode_to_vec()).expect("an answer");
    }
    assert!(cluster.pages.is_empty(), "the third page is the last");
    assert_eq!(pages.iter().map(|(_, revision)| *revision).collect::<Vec<_>>(), [0, 1200, 1200]);
    assert_eq!(pages[1].0, [&cluster.key("pods", 499)[..], &[0]].concat());
}
