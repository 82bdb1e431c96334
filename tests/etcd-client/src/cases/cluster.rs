//! Members and status.

use etcd_client::Client;

use crate::{
    check::{Outcome, ensure, same, some},
    server::{ADVERTISED_URL, NAME},
};

pub(super) async fn the_only_member_is_listed_with_name_and_urls(mut client: Client) -> Outcome {
    let answer = client.member_list().await?;
    same("members", answer.members().len(), 1)?;
    let member = some("member", answer.members().first())?;
    same("name", member.name(), NAME)?;
    same("client URLs", member.client_urls(), &[ADVERTISED_URL.to_owned()])?;
    ensure("it has an id", member.id() != 0)?;
    ensure("it has a peer URL", !member.peer_urls().is_empty())
}

pub(super) async fn status_names_the_leader_and_the_version(mut client: Client) -> Outcome {
    let members = client.member_list().await?;
    let member = some("member", members.members().first())?;
    let status = client.status().await?;
    same("leader", status.leader(), member.id())?;
    let numbers = status.version().split('.').filter(|part| part.parse::<u32>().is_ok()).count();
    same("numbers of the version", numbers, 3)?;
    ensure("the database has a size", status.db_size() > 0)?;
    ensure("there is a term", status.raft_term() > 0)?;
    let before = status.raft_index();
    client.put("status/a", "", None).await?;
    ensure("a put moves the index", client.status().await?.raft_index() > before)
}

pub(super) async fn headers_name_the_cluster_and_the_member(mut client: Client) -> Outcome {
    let put = client.put("header/a", "", None).await?;
    let members = client.member_list().await?;
    let (put, list) = (some("header", put.header())?, some("header", members.header())?);
    same("cluster", put.cluster_id(), list.cluster_id())?;
    same("member", Some(put.member_id()), members.members().first().map(etcd_client::Member::id))?;
    ensure("there is a term", put.raft_term() > 0)
}
