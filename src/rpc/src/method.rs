//! The table of RPCs: path, service, name and kind of each, and the answers to unknown paths.

use crate::{Code, Status};

/// Which side sends how many messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both, independent of each other.
    BidiStream,
}

impl Kind {
    /// The value of the metrics' label `grpc_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! methods {
    ($($service:literal { $($(#[$doc:meta])* $variant:ident = $name:literal $kind:ident,)* })*) => {
        /// An RPC of etcd's client port.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        #[allow(missing_docs)] // The names are etcd's.
        pub enum Method {
            $($($(#[$doc])* $variant,)*)*
        }

        impl Method {
            /// Every method, at the index that `as usize` gives.
            pub const ALL: [Self; METHOD_COUNT] = [$($(Self::$variant,)*)*];

            /// The method that a request's `:path` names.
            // Compares lengths, then bytes, from the top: the busiest methods come first in the table.
            #[must_use]
            pub fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $service, "/", $name) => Some(Self::$variant),)*)*
                    _ => None,
                }
            }

            /// The whole path, `/etcdserverpb.KV/Range`.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self {
                    $($(Self::$variant => concat!("/", $service, "/", $name),)*)*
                }
            }

            /// The service, `etcdserverpb.KV`.
            #[must_use]
            pub const fn service(self) -> &'static str {
                match self {
                    $($(Self::$variant => $service,)*)*
                }
            }

            /// The name within the service, `Range`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)*)*
                }
            }

            /// Unary or a stream.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $($(Self::$variant => Kind::$kind,)*)*
                }
            }
        }

        const SERVICES: &[&str] = &[$($service,)*];
    };
}

/// How many methods there are.
pub const METHOD_COUNT: usize = 52;

methods! {
    "etcdserverpb.KV" {
        Range = "Range" Unary,
        Put = "Put" Unary,
        Txn = "Txn" Unary,
        DeleteRange = "DeleteRange" Unary,
        RangeStream = "RangeStream" ServerStream,
        Compact = "Compact" Unary,
    }
    "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary,
        LeaseRevoke = "LeaseRevoke" Unary,
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream,
        LeaseTimeToLive = "LeaseTimeToLive" Unary,
        LeaseLeases = "LeaseLeases" Unary,
    }
    "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream,
    }
    "etcdserverpb.Maintenance" {
        Status = "Status" Unary,
        Alarm = "Alarm" Unary,
        Defragment = "Defragment" Unary,
        Hash = "Hash" Unary,
        HashKv = "HashKV" Unary,
        Snapshot = "Snapshot" ServerStream,
        MoveLeader = "MoveLeader" Unary,
        Downgrade = "Downgrade" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary,
        MemberRemove = "MemberRemove" Unary,
        MemberUpdate = "MemberUpdate" Unary,
        MemberList = "MemberList" Unary,
        MemberPromote = "MemberPromote" Unary,
    }
    "etcdserverpb.Auth" {
        Authenticate = "Authenticate" Unary,
        AuthEnable = "AuthEnable" Unary,
        AuthDisable = "AuthDisable" Unary,
        AuthStatus = "AuthStatus" Unary,
        UserAdd = "UserAdd" Unary,
        UserGet = "UserGet" Unary,
        UserList = "UserList" Unary,
        UserDelete = "UserDelete" Unary,
        UserChangePassword = "UserChangePassword" Unary,
        UserGrantRole = "UserGrantRole" Unary,
        UserRevokeRole = "UserRevokeRole" Unary,
        RoleAdd = "RoleAdd" Unary,
        RoleGet = "RoleGet" Unary,
        RoleList = "RoleList" Unary,
        RoleDelete = "RoleDelete" Unary,
        RoleGrantPermission = "RoleGrantPermission" Unary,
        RoleRevokePermission = "RoleRevokePermission" Unary,
    }
    "v3lockpb.Lock" {
        Lock = "Lock" Unary,
        Unlock = "Unlock" Unary,
    }
    "v3electionpb.Election" {
        Campaign = "Campaign" Unary,
        Proclaim = "Proclaim" Unary,
        Leader = "Leader" Unary,
        Observe = "Observe" ServerStream,
        Resign = "Resign" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck = "Check" Unary,
        HealthWatch = "Watch" ServerStream,
        HealthList = "List" Unary,
    }
}

impl Method {
    /// The status for a `:path` that [`Method::from_path`] doesn't know, in grpc-go's words.
    #[must_use]
    pub fn unknown(path: &str) -> Status {
        let Some((service, method)) = path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) else {
            return Status::new(Code::Unimplemented, format!("malformed method name: {path:?}"));
        };
        let text = if SERVICES.contains(&service) {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        };
        Status::new(Code::Unimplemented, text)
    }

    /// The status of a method that exists but is not implemented here: to a client the same as an unknown one.
    #[must_use]
    pub fn unimplemented(self) -> Status {
        Self::unknown(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_back_to_its_method() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
            assert_eq!(Method::from_path(method.path()), Some(method));
            assert_eq!(method.path(), format!("/{}/{}", method.service(), method.name()));
        }
        assert_eq!(Method::HashKv.path(), "/etcdserverpb.Maintenance/HashKV");
        assert_eq!(Method::HealthCheck.path(), "/grpc.health.v1.Health/Check");
        assert_eq!(Method::Watch.kind().name(), "bidi_stream");
    }

    #[test]
    fn unknown_paths_get_the_texts_of_grpc_go() {
        for (path, want) in [
            ("/a.B/C", "unknown service a.B"),
            ("/a/b/C", "unknown service a/b"),
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/etcdserverpb.KV/", "unknown method  for service etcdserverpb.KV"),
            ("/", "malformed method name: \"/\""),
            ("", "malformed method name: \"\""),
            ("etcdserverpb.KV/Range", "malformed method name: \"etcdserverpb.KV/Range\""),
        ] {
            assert_eq!(Method::from_path(path), None);
            assert_eq!(Method::unknown(path), Status::new(Code::Unimplemented, want.to_owned()));
        }
        assert_eq!(
            Method::RangeStream.unimplemented().message,
            "unknown method RangeStream for service etcdserverpb.KV"
        );
    }
}
