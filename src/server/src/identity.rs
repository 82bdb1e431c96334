//! Who a member is: its id and its cluster's, computed as etcd computes them at bootstrap, so that a node started with
//! etcd's flags shows etcd's ids.

use plinth_base::{MemberId, limits::MEMBERS_MAX};
use plinth_node::{MemberRecord, api::member_id};
use sha1::{Digest, Sha1};

use crate::config::Bootstrap;

/// The ids that replies carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// This member.
    pub member_id: MemberId,
    /// The cluster it belongs to.
    pub cluster_id: u64,
}

impl Identity {
    /// The ids of a new cluster, and of its member that is called `name`. The error is one line.
    pub fn bootstrap(name: &str, bootstrap: &Bootstrap) -> Result<Self, String> {
        let members = bootstrap.initial_members(name);
        let Some((_, own_urls)) = members.iter().find(|(member, _)| member == name) else {
            return Err(format!(
                "couldn't find local name \"{name}\" in the initial cluster configuration: make --name one of --initial-cluster"
            ));
        };
        let advertised: Vec<_> = bootstrap.advertise_peer_urls.iter().map(ToString::to_string).collect();
        if *own_urls != advertised {
            return Err(format!(
                "--initial-cluster has {name}={} but --initial-advertise-peer-urls has {}: give both the same URLs",
                own_urls.join(","),
                advertised.join(",")
            ));
        }
        let ids: Vec<_> = members.iter().map(|(_, urls)| member_id(urls, &bootstrap.cluster_token)).collect();
        for (at, id) in ids.iter().enumerate() {
            if let Some(twin) = ids[..at].iter().position(|other| other == id) {
                let (first, second) = (&members[twin].0, &members[at].0);
                return Err(format!(
                    "--initial-cluster gives \"{first}\" and \"{second}\" the same URLs: give each member its own"
                ));
            }
        }
        if ids.len() > MEMBERS_MAX {
            return Err(format!("--initial-cluster names {} members: {MEMBERS_MAX} are the most", ids.len()));
        }
        let own = member_id(own_urls, &bootstrap.cluster_token);
        Ok(Self { member_id: own, cluster_id: cluster_id(&ids) })
    }
}

/// The members of a new cluster as they are before any of them has started.
#[must_use]
pub fn initial_members(name: &str, bootstrap: &Bootstrap) -> Vec<MemberRecord> {
    let unstarted = |(_, peer_urls): (String, Vec<String>)| MemberRecord {
        id: member_id(&peer_urls, &bootstrap.cluster_token),
        peer_urls,
        ..MemberRecord::default()
    };
    bootstrap.initial_members(name).into_iter().map(unstarted).collect()
}

/// The id of a cluster: the first 8 bytes of SHA-1 over the ids of its initial members, ascending.
#[must_use]
pub fn cluster_id(members: &[MemberId]) -> u64 {
    let mut ids: Vec<_> = members.iter().map(|member| member.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (head, _) = digest.split_first_chunk::<8>().expect("SHA-1 has 20 bytes");
    u64::from_be_bytes(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plinth_base::Url;

    use crate::config::ClusterState;

    fn bootstrap(initial_cluster: Option<&str>, advertised: &str) -> Bootstrap {
        Bootstrap {
            advertise_peer_urls: Url::parse_list(advertised).expect("good URLs"),
            initial_cluster: initial_cluster.map(|text| Bootstrap::parse_cluster(text).expect("a good cluster")),
            cluster_state: ClusterState::New,
            cluster_token: "etcd-cluster".to_owned(),
        }
    }

    #[test]
    fn the_default_node_has_etcds_ids() {
        let ids = Identity::bootstrap("default", &bootstrap(None, "http://localhost:2380")).expect("one member");
        assert_eq!(format!("{:x}", ids.member_id.0), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", ids.cluster_id), "cdf818194e3a8c32");
    }

    #[test]
    fn the_name_does_not_matter_but_the_token_does() {
        let defaults = Identity::bootstrap("default", &bootstrap(None, "http://localhost:2380")).expect("one member");
        let named = Identity::bootstrap("infra1", &bootstrap(None, "http://localhost:2380")).expect("one member");
        assert_eq!(defaults, named);
        let mut other = bootstrap(None, "http://localhost:2380");
        other.cluster_token = "other".to_owned();
        assert_ne!(Identity::bootstrap("default", &other).expect("one member"), defaults);
    }

    #[test]
    fn a_cluster_that_cannot_be_started_is_refused_with_the_reason() {
        let cases = [
            (bootstrap(Some("a=http://h:1"), "http://h:1"), "couldn't find local name \"default\""),
            (bootstrap(Some("default=http://h:1,b=http://h:1"), "http://h:1"), "the same URLs"),
            (bootstrap(Some("default=http://h:1"), "http://h:2"), "give both the same URLs"),
        ];
        for (bootstrap, want) in cases {
            let error = Identity::bootstrap("default", &bootstrap).expect_err(want);
            assert!(error.contains(want), "{error}");
        }
    }
}
