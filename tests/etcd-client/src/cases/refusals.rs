//! What is refused, with etcd's codes and texts, and that the connection goes on afterwards.

use etcd_client::{Client, GetOptions, PutOptions, Txn, TxnOp};

use crate::check::{INVALID_ARGUMENT, OUT_OF_RANGE, Outcome, refused, same, some};

pub(super) async fn an_empty_key_is_refused(mut client: Client) -> Outcome {
    const TEXT: &str = "etcdserver: key is not provided";
    refused(client.put("", "1", None).await, INVALID_ARGUMENT, TEXT)?;
    refused(client.get("", None).await, INVALID_ARGUMENT, TEXT)?;
    refused(client.delete("", None).await, INVALID_ARGUMENT, TEXT)
}

pub(super) async fn a_future_revision_is_refused(mut client: Client) -> Outcome {
    let now = some("header", client.put("future/a", "", None).await?.take_header())?.revision();
    let get = client.get("future/a", Some(GetOptions::new().with_revision(now + 1))).await;
    refused(get, OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")?;
    same("count", client.get("future/a", Some(GetOptions::new().with_revision(now))).await?.count(), 1)
}

pub(super) async fn a_key_written_twice_in_a_txn_is_refused(mut client: Client) -> Outcome {
    let txn = Txn::new().and_then([TxnOp::put("twice/a", "1", None), TxnOp::put("twice/a", "2", None)]);
    refused(client.txn(txn).await, INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")?;
    same("count", client.get("twice/a", None).await?.count(), 0)
}

pub(super) async fn a_value_beside_ignore_value_is_refused(mut client: Client) -> Outcome {
    let put = client.put("beside/a", "1", Some(PutOptions::new().with_ignore_value())).await;
    refused(put, INVALID_ARGUMENT, "etcdserver: value is provided")
}
