//! Put, get and delete.

use etcd_client::{Client, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder, SortTarget};

use crate::check::{Outcome, ensure, same, some};

fn keys_of(answer: &GetResponse) -> Vec<&str> {
    answer.kvs().iter().filter_map(|kv| kv.key_str().ok()).collect()
}

fn values_of(answer: &GetResponse) -> Vec<&str> {
    answer.kvs().iter().filter_map(|kv| kv.value_str().ok()).collect()
}

pub(super) async fn a_put_is_read_back_with_its_revisions(mut client: Client) -> Outcome {
    let first = some("header", client.put("read/a", "1", None).await?.take_header())?.revision();
    let second = some("header", client.put("read/a", "2", None).await?.take_header())?.revision();
    same("revision of the second put", second, first + 1)?;
    let answer = client.get("read/a", None).await?;
    same("count", answer.count(), 1)?;
    ensure("there are no more", !answer.more())?;
    let kv = some("key", answer.kvs().first())?;
    same("key and value", (kv.key(), kv.value()), (&b"read/a"[..], &b"2"[..]))?;
    same("create and mod revision", (kv.create_revision(), kv.mod_revision()), (first, second))?;
    same("version and lease", (kv.version(), kv.lease()), (2, 0))?;
    same("an absent key", client.get("read/b", None).await?.count(), 0)
}

pub(super) async fn prev_key_is_the_version_before(mut client: Client) -> Outcome {
    let with_prev = || Some(PutOptions::new().with_prev_key());
    ensure("no version before the first", client.put("prev/a", "1", with_prev()).await?.prev_key().is_none())?;
    let answer = client.put("prev/a", "2", with_prev()).await?;
    same("value before", some("version before", answer.prev_key())?.value(), b"1")
}

pub(super) async fn a_prefix_is_read_in_key_order_up_to_the_limit(mut client: Client) -> Outcome {
    for key in ["prefix/c", "prefix/a", "prefix/b", "prefiy"] {
        client.put(key, "", None).await?;
    }
    let answer = client.get("prefix/", Some(GetOptions::new().with_prefix())).await?;
    same("keys", keys_of(&answer), vec!["prefix/a", "prefix/b", "prefix/c"])?;
    let answer = client.get("prefix/", Some(GetOptions::new().with_prefix().with_limit(2))).await?;
    same("keys within the limit", keys_of(&answer), vec!["prefix/a", "prefix/b"])?;
    same("count and more", (answer.count(), answer.more()), (3, true))?;
    let answer = client.get("prefix/b", Some(GetOptions::new().with_range("prefiy"))).await?;
    same("keys of a range", keys_of(&answer), vec!["prefix/b", "prefix/c"])
}

pub(super) async fn a_sort_orders_by_its_target(mut client: Client) -> Outcome {
    for (key, value) in [("sort/a", "2"), ("sort/b", "3"), ("sort/c", "1"), ("sort/a", "2")] {
        client.put(key, value, None).await?;
    }
    for (target, order, want) in [
        (SortTarget::Key, SortOrder::Descend, ["sort/c", "sort/b", "sort/a"]),
        (SortTarget::Value, SortOrder::Ascend, ["sort/c", "sort/a", "sort/b"]),
        (SortTarget::Create, SortOrder::Descend, ["sort/c", "sort/b", "sort/a"]),
        (SortTarget::Mod, SortOrder::Descend, ["sort/a", "sort/c", "sort/b"]),
        (SortTarget::Version, SortOrder::Ascend, ["sort/b", "sort/c", "sort/a"]),
    ] {
        let answer = client.get("sort/", Some(GetOptions::new().with_prefix().with_sort(target, order))).await?;
        same(&format!("keys by {target:?}, {order:?}"), keys_of(&answer), want.to_vec())?;
    }
    Ok(())
}

pub(super) async fn keys_only_and_count_only_leave_out_what_they_say(mut client: Client) -> Outcome {
    for key in ["only/a", "only/b"] {
        client.put(key, "value", None).await?;
    }
    let answer = client.get("only/", Some(GetOptions::new().with_prefix().with_keys_only())).await?;
    same("keys", keys_of(&answer), vec!["only/a", "only/b"])?;
    same("values", values_of(&answer), vec!["", ""])?;
    let answer = client.get("only/", Some(GetOptions::new().with_prefix().with_count_only())).await?;
    same("count, and no keys", (answer.count(), answer.kvs().len()), (2, 0))
}

pub(super) async fn an_older_revision_is_read_as_it_was(mut client: Client) -> Outcome {
    client.put("old/a", "1", None).await?;
    let then = some("header", client.put("old/b", "1", None).await?.take_header())?.revision();
    client.put("old/a", "2", None).await?;
    client.delete("old/b", None).await?;
    let now = client.get("old/", Some(GetOptions::new().with_prefix().with_serializable())).await?;
    same("values now", values_of(&now), vec!["2"])?;
    let old = client.get("old/", Some(GetOptions::new().with_prefix().with_revision(then))).await?;
    same("values then", values_of(&old), vec!["1", "1"])
}

pub(super) async fn revision_filters_choose_by_revision(mut client: Client) -> Outcome {
    let first = some("header", client.put("filter/a", "", None).await?.take_header())?.revision();
    client.put("filter/b", "", None).await?;
    client.put("filter/a", "", None).await?;
    let filtered = [
        (GetOptions::new().with_min_mod_revision(first + 2), vec!["filter/a"]),
        (GetOptions::new().with_max_mod_revision(first + 1), vec!["filter/b"]),
        (GetOptions::new().with_min_create_revision(first + 1), vec!["filter/b"]),
        (GetOptions::new().with_max_create_revision(first), vec!["filter/a"]),
    ];
    for (options, want) in filtered {
        let what = format!("keys with {options:?}");
        let answer = client.get("filter/", Some(options.with_prefix())).await?;
        same(&what, keys_of(&answer), want)?;
        same("count, which no filter changes", answer.count(), 2)?;
    }
    Ok(())
}

pub(super) async fn a_deletion_counts_and_returns_what_it_deleted(mut client: Client) -> Outcome {
    for key in ["delete/a", "delete/b", "delete/c"] {
        client.put(key, key, None).await?;
    }
    same("deleted", client.delete("delete/b", None).await?.deleted(), 1)?;
    same("deleted again", client.delete("delete/b", None).await?.deleted(), 0)?;
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let answer = client.delete("delete/", Some(options)).await?;
    same("deleted by prefix", answer.deleted(), 2)?;
    let before: Vec<&[u8]> = answer.prev_kvs().iter().map(etcd_client::KeyValue::value).collect();
    same("what was there", before, vec![&b"delete/a"[..], &b"delete/c"[..]])?;
    same("left", client.get("delete/", Some(GetOptions::new().with_prefix())).await?.count(), 0)
}

pub(super) async fn ignore_value_keeps_the_value(mut client: Client) -> Outcome {
    client.put("ignore/a", "kept", None).await?;
    client.put("ignore/a", "", Some(PutOptions::new().with_ignore_value())).await?;
    let answer = client.get("ignore/a", None).await?;
    let kv = some("key", answer.kvs().first())?;
    same("value and version", (kv.value(), kv.version()), (&b"kept"[..], 2))
}
