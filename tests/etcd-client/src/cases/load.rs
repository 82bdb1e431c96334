//! More than one thing at a time, and larger than usual.

use std::collections::BTreeSet;

use etcd_client::{Client, GetOptions};
use futures_util::future::try_join_all;

use crate::check::{Failure, Outcome, same, some};

const PUTS: usize = 1000;
/// Below etcd's limit of 1.5 MiB a request.
const LARGE_BYTES: usize = 1 << 20;

pub(super) async fn a_thousand_concurrent_puts_each_get_a_revision_of_their_own(client: Client) -> Outcome {
    let put = |number: usize| {
        let mut client = client.clone();
        async move {
            let mut answer = client.put(format!("load/{number:04}"), number.to_string(), None).await?;
            Ok::<i64, Failure>(some("header", answer.take_header())?.revision())
        }
    };
    let revisions: BTreeSet<i64> = try_join_all((0..PUTS).map(put)).await?.into_iter().collect();
    same("different revisions", revisions.len(), PUTS)?;
    let answer = client.clone().get("load/", Some(GetOptions::new().with_prefix())).await?;
    same("count", answer.count(), i64::try_from(PUTS).expect("a small number"))?;
    for (number, kv) in answer.kvs().iter().enumerate() {
        same("value", kv.value(), number.to_string().as_bytes())?;
        same("version", kv.version(), 1)?;
    }
    let stored: BTreeSet<i64> = answer.kvs().iter().map(etcd_client::KeyValue::mod_revision).collect();
    same("the revisions that the answers named are those that are stored", stored == revisions, true)
}

pub(super) async fn a_large_value_survives_the_way_there_and_back(mut client: Client) -> Outcome {
    let value: Vec<u8> = (0..LARGE_BYTES).map(|at| u8::try_from(at % 251).expect("below 256")).collect();
    client.put("large/a", value.clone(), None).await?;
    let answer = client.get("large/a", None).await?;
    let kv = some("key", answer.kvs().first())?;
    same("the value is the same", kv.value() == value, true)
}
