//! What a member is that has no data yet: one of the first of a new cluster, or one that was added to a running one.
//!
//! A running cluster knows its members by the ids that they were given. Whoever joins asks for them, and finds itself by its URLs. One that has started before
//! and whose data is gone must not come back: it has forgotten what it voted for and what it acknowledged.

use std::net::{SocketAddr, ToSocketAddrs};

use plinth_base::Url;
use plinth_env::PeerAddress;
use plinth_node::MemberRecord;

use crate::{
    config::{Bootstrap, ClusterState},
    identity::{Identity, initial_members},
    peers::{Census, census},
};

/// What the files of a new member begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstStart {
    /// Its ids.
    pub identity: Identity,
    /// The members it knows of.
    pub members: Vec<MemberRecord>,
    /// They have a cluster, which this one joins.
    pub joins: bool,
}

impl FirstStart {
    /// Of the member that is called `name`. The error is one line.
    pub fn plan(name: &str, bootstrap: &Bootstrap) -> Result<Self, String> {
        match bootstrap.cluster_state {
            ClusterState::New => {
                let identity = Identity::bootstrap(name, bootstrap)?;
                if let Ok(census) = census(&others(name, bootstrap)) {
                    refuse_forgetful(identity, &census)?;
                }
                Ok(Self { identity, members: initial_members(name, bootstrap), joins: false })
            }
            ClusterState::Existing => {
                let urls = others(name, bootstrap);
                if urls.is_empty() {
                    return Err("--initial-cluster-state=existing joins a running cluster: name its members in --initial-cluster".to_owned());
                }
                let census = census(&urls)
                    .map_err(|error| format!("cannot ask the members of the cluster who they are ({error}): start one of them, or correct --initial-cluster"))?;
                join(name, bootstrap, &census)
            }
        }
    }
}

/// Where the others of `--initial-cluster` are.
fn others(name: &str, bootstrap: &Bootstrap) -> Vec<String> {
    let members = bootstrap.initial_members(name);
    members.into_iter().filter(|(member, _)| member != name).flat_map(|(_, urls)| urls).collect()
}

fn refuse_forgetful(identity: Identity, census: &Census) -> Result<(), String> {
    let is_known = |member: &PeerAddress| member.id == identity.member_id && member.has_started;
    if census.cluster_id == identity.cluster_id && census.members.iter().any(is_known) {
        return Err(format!(
            "member {:x} has already been bootstrapped, and its data isn't here: restore its --data-dir, or remove the member \
             from the cluster, add it again, and start it with --initial-cluster-state=existing",
            identity.member_id.0
        ));
    }
    Ok(())
}

fn join(name: &str, bootstrap: &Bootstrap, census: &Census) -> Result<FirstStart, String> {
    let named = bootstrap.initial_members(name);
    if named.len() != census.members.len() {
        return Err(format!(
            "error validating peerURLs: member count is unequal: --initial-cluster names {}, the cluster has {}; add this \
             member there first, and name all",
            named.len(),
            census.members.len()
        ));
    }
    let mut own = None;
    for (member, urls) in &named {
        let found = census.members.iter().find(|known| are_same(&known.urls, urls));
        let Some(found) = found else {
            return Err(format!(
                "error validating peerURLs: no member of the cluster is at {} ({member}): write the URLs that etcdctl member list shows",
                urls.join(",")
            ));
        };
        if member == name {
            own = Some(found);
        }
    }
    let Some(own) = own else {
        return Err(format!(
            "couldn't find local name \"{name}\" in the initial cluster configuration: make --name one of --initial-cluster"
        ));
    };
    let identity = Identity { member_id: own.id, cluster_id: census.cluster_id };
    refuse_forgetful(identity, census)?;
    let record = |PeerAddress { id, urls, .. }: PeerAddress| MemberRecord { id, peer_urls: urls, ..Default::default() };
    let members = census.members.iter().cloned().map(record).collect();
    Ok(FirstStart { identity, members, joins: true })
}

/// Whether two lists of URLs lead to the same places. One may have names where the other has addresses.
fn are_same(some: &[String], others: &[String]) -> bool {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort_unstable();
        urls
    };
    sorted(some) == sorted(others)
        || some.len() == others.len() && places(some).is_some_and(|some| places(others).as_ref() == Some(&some))
}

fn places(urls: &[String]) -> Option<Vec<SocketAddr>> {
    let mut all = Vec::new();
    for url in urls {
        let url = Url::parse(url).ok()?;
        all.extend(url.host_port()?.to_socket_addrs().ok()?);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use plinth_base::MemberId;

    use super::*;

    fn bootstrap(cluster: &str) -> Bootstrap {
        Bootstrap {
            advertise_peer_urls: Url::parse_list("http://127.0.0.1:3").expect("good URLs"),
            initial_cluster: Some(Bootstrap::parse_cluster(cluster).expect("a good cluster")),
            cluster_state: ClusterState::Existing,
            cluster_token: "etcd-cluster".to_owned(),
        }
    }

    fn census_of(members: &[(u64, &str, bool)]) -> Census {
        let address = |(id, url, has_started): &(u64, &str, bool)| PeerAddress {
            id: MemberId(*id),
            urls: vec![(*url).to_owned()],
            has_started: *has_started,
        };
        Census { cluster_id: 9, members: members.iter().map(address).collect() }
    }

    #[test]
    fn whoever_joins_finds_itself_by_its_urls() {
        let cluster = bootstrap("a=http://127.0.0.1:1,new=http://localhost:3");
        let census = census_of(&[(1, "http://127.0.0.1:1", true), (7, "http://localhost:3", false)]);
        let plan = join("new", &cluster, &census).expect("it was added");
        assert_eq!(plan.identity, Identity { member_id: MemberId(7), cluster_id: 9 });
        assert!(plan.joins && plan.members.len() == 2);
    }

    #[test]
    fn whoever_is_not_or_not_any_more_a_member_is_told_what_to_do() {
        let cluster = bootstrap("a=http://127.0.0.1:1,new=http://127.0.0.1:3");
        let refused = |census: &Census, want: &str| {
            let error = join("new", &cluster, census).expect_err(want);
            assert!(error.contains(want), "{error}");
        };
        refused(&census_of(&[(1, "http://127.0.0.1:1", true)]), "member count is unequal");
        refused(
            &census_of(&[(1, "http://127.0.0.1:1", true), (7, "http://127.0.0.1:4", false)]),
            "no member of the cluster is at",
        );
        refused(
            &census_of(&[(1, "http://127.0.0.1:1", true), (7, "http://127.0.0.1:3", true)]),
            "already been bootstrapped",
        );
    }
}
