//! Transactions.

use etcd_client::{Client, Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse};

use crate::check::{Failure, Outcome, ensure, same, some};

/// The value of a key, empty if it is absent.
async fn value(client: &mut Client, key: &str) -> Result<Vec<u8>, Failure> {
    let answer = client.get(key, None).await?;
    Ok(answer.kvs().first().map(|kv| kv.value().to_vec()).unwrap_or_default())
}

pub(super) async fn a_txn_whose_compares_hold_takes_the_first_branch(mut client: Client) -> Outcome {
    client.put("txn/a", "1", None).await?;
    let txn = Txn::new()
        .when([Compare::value("txn/a", CompareOp::Equal, "1"), Compare::version("txn/b", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("txn/b", "2", None), TxnOp::get("txn/b", None), TxnOp::delete("txn/a", None)])
        .or_else([TxnOp::put("txn/b", "3", None)]);
    let answer = client.txn(txn).await?;
    ensure("it succeeded", answer.succeeded())?;
    let revision = some("header", answer.header())?.revision();
    match &answer.op_responses()[..] {
        [TxnOpResponse::Put(_), TxnOpResponse::Get(got), TxnOpResponse::Delete(deleted)] => {
            let kv = some("key put before in the same transaction", got.kvs().first())?;
            same("value and revision", (kv.value(), kv.mod_revision()), (&b"2"[..], revision))?;
            same("deleted", deleted.deleted(), 1)?;
        }
        other => return same("number of answers", other.len(), 3),
    }
    same("count afterwards", client.get("txn/", Some(GetOptions::new().with_prefix())).await?.count(), 1)
}

pub(super) async fn a_txn_whose_compare_fails_takes_the_other_branch(mut client: Client) -> Outcome {
    client.put("fails/a", "1", None).await?;
    let txn = Txn::new()
        .when([Compare::value("fails/a", CompareOp::NotEqual, "1")])
        .and_then([TxnOp::put("fails/a", "2", None)])
        .or_else([TxnOp::put("fails/a", "3", None), TxnOp::get("fails/a", None)]);
    let answer = client.txn(txn).await?;
    ensure("it did not succeed", !answer.succeeded())?;
    same("number of answers", answer.op_responses().len(), 2)?;
    same("value", value(&mut client, "fails/a").await?, b"3".to_vec())
}

pub(super) async fn compares_look_at_every_target(mut client: Client) -> Outcome {
    let created = some("header", client.put("targets/a", "1", None).await?.take_header())?.revision();
    client.put("targets/a", "2", None).await?;
    let holding = [
        Compare::version("targets/a", CompareOp::Equal, 2),
        Compare::create_revision("targets/a", CompareOp::Equal, created),
        Compare::mod_revision("targets/a", CompareOp::Greater, created),
        Compare::value("targets/a", CompareOp::Less, "3"),
        Compare::lease("targets/a", CompareOp::Equal, 0),
    ];
    ensure("all of them hold", client.txn(Txn::new().when(holding)).await?.succeeded())?;
    let failing = [
        Compare::version("targets/a", CompareOp::Greater, 2),
        Compare::create_revision("targets/a", CompareOp::NotEqual, created),
        Compare::mod_revision("targets/a", CompareOp::Less, created),
        Compare::value("targets/a", CompareOp::Equal, "1"),
        Compare::lease("targets/a", CompareOp::Greater, 0),
    ];
    for compare in failing {
        let what = format!("{compare:?} fails");
        ensure(&what, !client.txn(Txn::new().when([compare])).await?.succeeded())?;
    }
    Ok(())
}

pub(super) async fn a_compare_of_a_prefix_holds_only_if_every_key_does(mut client: Client) -> Outcome {
    client.put("every/a", "same", None).await?;
    client.put("every/b", "same", None).await?;
    let compare = || Txn::new().when([Compare::value("every/", CompareOp::Equal, "same").with_prefix()]);
    ensure("it holds for both", client.txn(compare()).await?.succeeded())?;
    client.put("every/b", "other", None).await?;
    ensure("it no longer holds for both", !client.txn(compare()).await?.succeeded())
}

pub(super) async fn a_nested_txn_is_answered_within_its_outer_one(mut client: Client) -> Outcome {
    client.put("nested/a", "1", None).await?;
    let inner = Txn::new()
        .when([Compare::value("nested/a", CompareOp::Equal, "0")])
        .and_then([TxnOp::put("nested/b", "then", None)])
        .or_else([TxnOp::put("nested/b", "else", None), TxnOp::get("nested/a", None)]);
    let answer = client.txn(Txn::new().and_then([TxnOp::put("nested/c", "", None), TxnOp::txn(inner)])).await?;
    ensure("the outer one succeeded", answer.succeeded())?;
    match &answer.op_responses()[..] {
        [TxnOpResponse::Put(_), TxnOpResponse::Txn(inner)] => {
            ensure("the inner one did not succeed", !inner.succeeded())?;
            same("number of inner answers", inner.op_responses().len(), 2)?;
        }
        other => return same("number of answers", other.len(), 2),
    }
    same("value", value(&mut client, "nested/b").await?, b"else".to_vec())
}
