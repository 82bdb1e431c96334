use super::*;

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

fn delete(key: &str, range_end: &str) -> Request {
    Request::DeleteRange(DeleteRange { key: key.into(), range_end: range_end.into(), prev_kv: true })
}

fn all() -> Range {
    Range { key: vec![0], range_end: vec![0], ..Range::default() }
}

fn get(key: &str) -> Range {
    Range { key: key.into(), ..Range::default() }
}

fn compare(key: &str, target: Target, relation: Relation) -> Compare {
    Compare { key: key.into(), range_end: Vec::new(), target, relation }
}

/// A model with a=1 (rev 2), b=2 (rev 3), c=3 (rev 4), a=4 (rev 5).
fn abc() -> Model {
    let mut model = Model::default();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        model.execute(&put(key, value)).expect("plain puts succeed");
    }
    model
}

/// Keys, `more` and `count` of a range.
fn read(model: &mut Model, range: Range) -> (String, bool, i64) {
    match model.execute(&Request::Range(range)) {
        Ok(Response::Range { kvs, more, count, .. }) => {
            let keys: Vec<_> = kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
            (keys.join(" "), more, count)
        }
        other => panic!("a range was answered with {other:?}"),
    }
}

fn txn(compare: Vec<Compare>, success: Vec<Request>, failure: Vec<Request>) -> Request {
    Request::Txn(Txn { compare, success, failure })
}

#[test]
fn first_write_makes_revision_two_and_reads_make_none() {
    let mut model = Model::default();
    assert_eq!(model.revision(), 1);
    assert_eq!(read(&mut model, all()), (String::new(), false, 0));
    let response = model.execute(&put("a", "1")).expect("plain puts succeed");
    assert_eq!(response, Response::Put { revision: 2, prev_kv: None });
    assert_eq!(model.execute(&delete("x", "")).expect("nothing matches").revision(), 2);
    assert_eq!(model.revision(), 2);
}

#[test]
fn versions_count_puts_and_begin_again_after_a_delete() {
    let mut model = abc();
    let kv = model.state()[b"a".as_slice()].as_ref().clone();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 5, 2));
    let response = model.execute(&delete("a", "c")).expect("deletes succeed");
    let Response::DeleteRange { revision: 6, deleted: 2, prev_kvs } = response else { panic!("{response:?}") };
    assert_eq!(prev_kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>(), [b"4", b"2"]);
    model.execute(&put("a", "5")).expect("plain puts succeed");
    assert_eq!(model.state()[b"a".as_slice()].version, 1);
    assert_eq!(model.state_at(5).map(BTreeMap::len), Some(3), "history stays");
}

#[test]
fn range_ends_follow_the_conventions() {
    let mut model = abc();
    let mut keys = |key: &[u8], end: &[u8]| {
        read(&mut model, Range { key: key.into(), range_end: end.into(), ..Range::default() }).0
    };
    assert_eq!(keys(b"b", b""), "b");
    assert_eq!(keys(b"b", b"\0"), "b c");
    assert_eq!(keys(b"\0", b"\0"), "a b c");
    assert_eq!(keys(b"a", b"c"), "a b");
    assert_eq!(keys(b"c", b"a"), "");
}

#[test]
fn limit_comes_before_the_sort_only_without_an_order() {
    let mut model = abc();
    let by_mod = |sort_order| Range { limit: 1, sort_target: SortTarget::Mod, sort_order, ..all() };
    // Of a and b alone, b has the smaller mod revision; of all three also.
    assert_eq!(read(&mut model, by_mod(SortOrder::None)), ("b".into(), true, 3));
    assert_eq!(read(&mut model, by_mod(SortOrder::Descend)), ("a".into(), true, 3));
    let by_value = |sort_order| Range { limit: 1, sort_target: SortTarget::Value, sort_order, ..all() };
    model.execute(&put("c", "0")).expect("plain puts succeed");
    assert_eq!(read(&mut model, by_value(SortOrder::None)).0, "b", "c wasn't fetched");
    assert_eq!(read(&mut model, by_value(SortOrder::Ascend)).0, "c");
}

#[test]
fn filters_cut_before_the_limit_but_not_the_count() {
    let mut model = abc();
    assert_eq!(read(&mut model, Range { min_mod_revision: 4, ..all() }), ("a c".into(), false, 3));
    assert_eq!(read(&mut model, Range { max_mod_revision: 4, limit: 1, ..all() }), ("b".into(), true, 3));
    assert_eq!(read(&mut model, Range { min_create_revision: 3, max_create_revision: 3, ..all() }).0, "b");
    assert_eq!(read(&mut model, Range { count_only: true, limit: 1, ..all() }), (String::new(), false, 3));
}

#[test]
fn keys_only_shows_the_lease_only_when_values_were_read() {
    let mut model = Model::default();
    model.grant_lease(7);
    model
        .execute(&Request::Put(Put { key: "k".into(), value: "v".into(), lease: 7, ..Put::default() }))
        .expect("the lease exists");
    let mut lease = |sort_target| {
        let range = Range { keys_only: true, sort_target, ..all() };
        match model.execute(&Request::Range(range)) {
            Ok(Response::Range { kvs, .. }) => (kvs[0].value.clone(), kvs[0].lease),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(lease(SortTarget::Key), (vec![], 0));
    assert_eq!(lease(SortTarget::Value), (vec![], 7));
}

#[test]
fn old_revisions_are_readable_down_to_the_compacted_one() {
    let mut model = abc();
    assert_eq!(read(&mut model, Range { revision: 2, ..all() }).0, "a");
    model.compact(3).expect("3 is between 1 and 5");
    assert_eq!(read(&mut model, Range { revision: 3, ..all() }).0, "a b");
    assert_eq!(read(&mut model, Range { revision: -1, ..all() }).0, "a b c");
    let mut refused = |revision| model.execute(&Request::Range(Range { revision, ..all() })).err();
    assert_eq!(refused(2), Some(Refused::Compacted));
    assert_eq!(refused(6), Some(Refused::FutureRevision));
    assert_eq!(model.compact(3), Err(Refused::Compacted));
    assert_eq!(model.compact(6), Err(Refused::FutureRevision));
}

#[test]
fn put_checks_come_in_their_order() {
    let mut model = abc();
    let mut refused = |put: Put| model.execute(&Request::Put(put)).err();
    let base = Put { key: "x".into(), ..Put::default() };
    assert_eq!(refused(Put { ignore_value: true, ..Put::default() }), Some(Refused::KeyNotProvided));
    assert_eq!(
        refused(Put { ignore_value: true, value: "v".into(), lease: 9, ..base.clone() }),
        Some(Refused::ValueProvided)
    );
    assert_eq!(refused(Put { ignore_lease: true, lease: 9, ..base.clone() }), Some(Refused::LeaseProvided));
    assert_eq!(refused(Put { ignore_value: true, lease: 9, ..base.clone() }), Some(Refused::LeaseNotFound));
    assert_eq!(refused(Put { ignore_value: true, ..base }), Some(Refused::KeyNotFound));
    assert_eq!(model.revision(), 5);
}

#[test]
fn ignored_parts_stay_and_lease_zero_detaches() {
    let mut model = Model::default();
    model.grant_lease(7);
    let base = Put { key: "k".into(), ..Put::default() };
    let mut after = |put: Put| {
        model.execute(&Request::Put(put)).expect("key and lease exist");
        let kv = &model.state()[b"k".as_slice()];
        (kv.value.clone(), kv.lease, kv.version)
    };
    assert_eq!(after(Put { value: "v".into(), lease: 7, ..base.clone() }), (b"v".to_vec(), 7, 1));
    assert_eq!(after(Put { ignore_lease: true, value: "w".into(), ..base.clone() }), (b"w".to_vec(), 7, 2));
    assert_eq!(after(Put { ignore_value: true, ..base.clone() }), (b"w".to_vec(), 0, 3));
    assert_eq!(after(Put { ignore_value: true, ignore_lease: true, ..base }), (b"w".to_vec(), 0, 4));
}

#[test]
fn revoke_deletes_the_keys_of_a_lease_at_one_revision() {
    let mut model = Model::default();
    model.grant_lease(7);
    for key in ["a", "b"] {
        model.execute(&Request::Put(Put { key: key.into(), lease: 7, ..Put::default() })).expect("the lease exists");
    }
    model.revoke_lease(7).expect("it exists");
    assert_eq!((model.revision(), model.state().len()), (4, 0));
    assert_eq!(model.revoke_lease(7), Err(Refused::LeaseNotFound));
}

#[test]
fn compares_of_absent_keys_see_zeroes_but_no_value() {
    let mut model = abc();
    let mut holds = |compare: Compare| match model.execute(&txn(vec![compare], vec![], vec![])) {
        Ok(Response::Txn { succeeded, .. }) => succeeded,
        other => panic!("{other:?}"),
    };
    assert!(holds(compare("x", Target::Version(0), Relation::Equal)));
    assert!(holds(compare("x", Target::Mod(1), Relation::Less)));
    for relation in [Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Unknown] {
        assert!(!holds(compare("x", Target::Value(vec![]), relation)));
    }
    assert!(holds(compare("a", Target::Value(b"3".to_vec()), Relation::Greater)));
    assert!(holds(compare("a", Target::Version(2), Relation::Unknown)));
    let range = |value: &str| Compare {
        range_end: b"c".to_vec(),
        ..compare("a", Target::Value(value.into()), Relation::Greater)
    };
    assert!(holds(range("1")));
    assert!(!holds(range("2")), "b is not greater");
}

#[test]
fn operations_of_a_txn_see_earlier_ones_and_share_a_revision() {
    let mut model = abc();
    let success =
        vec![Request::Range(get("x")), put("x", "9"), Request::Range(get("x")), delete("b", ""), delete("zz", "")];
    let response = model.execute(&txn(vec![], success, vec![])).expect("nothing is refused");
    let Response::Txn { revision: 6, succeeded: true, responses } = response else { panic!("{response:?}") };
    assert_eq!(responses.iter().map(Response::revision).collect::<Vec<_>>(), [5, 6, 6, 6, 6]);
    let Response::Range { kvs, .. } = &responses[2] else { panic!("{responses:?}") };
    assert_eq!((kvs[0].value.as_slice(), kvs[0].mod_revision), (b"9".as_slice(), 6));
    assert_eq!(model.revision(), 6);
}

#[test]
fn txn_that_changes_nothing_makes_no_revision() {
    let mut model = abc();
    let response = model.execute(&txn(vec![], vec![delete("x", ""), Request::Range(all())], vec![]));
    assert_eq!(response.expect("nothing is refused").revision(), 5);
    assert_eq!(model.revision(), 5);
}

#[test]
fn nested_compares_are_made_before_any_operation() {
    let mut model = abc();
    let nested = txn(
        vec![compare("a", Target::Value(b"4".to_vec()), Relation::Equal)],
        vec![put("then", "")],
        vec![put("else", "")],
    );
    // The delete comes first, but the nested compare has already seen the key.
    let response = model.execute(&txn(vec![], vec![delete("a", ""), nested], vec![])).expect("nothing is refused");
    let Response::Txn { responses, .. } = response else { panic!("{response:?}") };
    assert!(matches!(responses[1], Response::Txn { revision: 0, succeeded: true, .. }));
    assert!(model.state().contains_key(b"then".as_slice()) && !model.state().contains_key(b"a".as_slice()));
}

#[test]
fn refused_txn_applies_nothing() {
    let mut model = abc();
    let bad = |request| txn(vec![], vec![put("x", ""), request], vec![]);
    let future = Request::Range(Range { revision: 6, ..all() });
    let negative = Request::Range(Range { revision: -2, ..all() });
    let lease = Request::Put(Put { key: "y".into(), lease: 9, ..Put::default() });
    assert_eq!(model.execute(&bad(future)), Err(Refused::FutureRevision));
    assert_eq!(model.execute(&bad(negative)), Err(Refused::Compacted));
    assert_eq!(model.execute(&bad(lease)), Err(Refused::LeaseNotFound));
    assert_eq!(model.execute(&bad(Request::Empty)), Err(Refused::KeyNotFound));
    assert_eq!(model.revision(), 5);
}

#[test]
fn keys_written_twice_are_refused_and_the_gaps_are_those_of_etcd() {
    let mut model = Model::default();
    let mut refused = |ops: Vec<Request>| model.execute(&txn(vec![], ops, vec![])).err();
    let nested = |then: Vec<Request>, otherwise: Vec<Request>| txn(vec![], then, otherwise);
    let duplicate = Some(Refused::DuplicateKey);
    assert_eq!(refused(vec![put("a", ""), put("a", "")]), duplicate);
    assert_eq!(refused(vec![put("b", ""), delete("a", "c")]), duplicate);
    assert_eq!(refused(vec![delete("a", "c"), put("b", "")]), duplicate);
    assert_eq!(refused(vec![put("a", ""), nested(vec![put("a", "")], vec![])]), duplicate);
    assert_eq!(refused(vec![nested(vec![put("a", "")], vec![]), nested(vec![put("a", "")], vec![])]), duplicate);
    assert_eq!(refused(vec![nested(vec![delete("a", "")], vec![]), put("a", "")]), duplicate);
    assert_eq!(refused(vec![nested(vec![delete("a", "")], vec![]), nested(vec![put("a", "")], vec![])]), duplicate);
    // The branch that isn't taken is checked too.
    assert_eq!(refused(vec![nested(vec![], vec![put("a", ""), put("a", "")])]), duplicate);
    // Accepted.
    assert_eq!(refused(vec![nested(vec![put("a", "")], vec![put("a", "")])]), None);
    assert_eq!(refused(vec![delete("a", "c"), delete("b", "")]), None);
    assert_eq!(refused(vec![nested(vec![put("a", "")], vec![]), nested(vec![delete("a", "")], vec![])]), None);
    assert_eq!(refused(vec![delete("a", "\0"), put("b", "")]), None);
}

#[test]
fn nested_txns_share_the_budget_of_operations() {
    let mut model = Model::new(3);
    let puts = |n: u8| (0..n).map(|i| put(&format!("k{i}"), "")).collect::<Vec<_>>();
    assert!(model.execute(&txn(vec![], puts(3), vec![])).is_ok());
    assert_eq!(model.execute(&txn(vec![], puts(4), vec![])), Err(Refused::TooManyOps));
    let nested = |n| txn(vec![], vec![txn(vec![], puts(n), vec![])], vec![]);
    assert!(model.execute(&nested(2)).is_ok());
    assert_eq!(model.execute(&nested(3)), Err(Refused::TooManyOps));
}

#[test]
fn rewound_model_answers_as_it_did() {
    let mut old = abc().rewound_to(3).expect("3 is not compacted");
    assert_eq!(old.revision(), 3);
    assert_eq!(read(&mut old, all()).0, "a b");
}
