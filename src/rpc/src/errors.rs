//! The one table of etcd's client-visible errors. Clients map errors by the exact text: not a byte of it may change.
//!
//! Where the code looks wrong (Unknown for membership checks), that is what etcd's server puts on the wire.

use crate::{Code, Status};

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:ident $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Status = Status::fixed(Code::$code, $text);)*

        #[cfg(test)]
        const ALL: &[(&str, Status)] = &[$((stringify!($name), $name),)*];
    };
}

// KV, Txn, Compact.
errors! {
    /// An empty key in Range, Put, DeleteRange, a compare or an operation of a Txn.
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    /// ignore_value or ignore_lease on a missing key; an operation of a Txn without content.
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    /// ignore_value with a value.
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    /// ignore_lease with a lease.
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    /// More operations in a Txn than `--max-txn-ops`.
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    /// Puts or deletes of a Txn overlap.
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    /// A sort order or target that doesn't exist.
    INVALID_SORT_OPTION = InvalidArgument "etcdserver: invalid sort option";
    /// The replicated request exceeds `--max-request-bytes`.
    REQUEST_TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    /// Metadata client-api-version is not UTF-8.
    INVALID_CLIENT_API_VERSION = InvalidArgument "etcdserver: invalid client api version";
    /// The revision is below the compaction.
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    /// The revision is above the current one.
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    /// The quota is used up, or a NOSPACE alarm is active.
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    /// A CORRUPT alarm is active.
    CORRUPT = DataLoss "etcdserver: corrupt cluster";
    /// RangeStream with a sort order.
    RANGE_STREAM_SORT = Unimplemented "RangeStream does not support custom sort orders";
    /// RangeStream with minimal or maximal revisions.
    RANGE_STREAM_FILTER = Unimplemented "RangeStream does not support revision filters";

    // Lease.

    /// Put or revoke with a lease that doesn't exist.
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    /// Grant with an id in use.
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    /// Grant of more than 9,000,000,000 seconds.
    LEASE_TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";
    /// The leader's apply lags too far behind to renew, ask or promote.
    TIMEOUT_WAIT_APPLIED_INDEX = Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    /// A renewal at a leader that failed its own check.
    NOT_PRIMARY_LESSOR = Unknown "not a primary lessor";

    // Watch: the whole stream.

    /// The stream was cancelled by the server.
    WATCH_CANCELED = Canceled "etcdserver: watch canceled";

    // Cluster.

    /// Add with an id in use.
    MEMBER_EXISTS = FailedPrecondition "etcdserver: member ID already exist";
    /// Add or update with a URL in use.
    PEER_URL_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists";
    /// The strict check for reconfiguration.
    MEMBER_NOT_ENOUGH_STARTED = Unknown "etcdserver: re-configuration failed due to not enough started members";
    /// Add with URLs that can't be parsed.
    MEMBER_BAD_URLS = InvalidArgument "etcdserver: given member URLs are invalid";
    /// Remove, update or promote of an id unknown or removed.
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found";
    /// Promote of a voter.
    MEMBER_NOT_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member";
    /// Promote of a learner that lags.
    LEARNER_NOT_READY = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    /// More learners than allowed.
    TOO_MANY_LEARNERS = FailedPrecondition "etcdserver: too many learner members in cluster";
    /// Too few active members for a reconfiguration.
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster";
    /// The RPC was sent to a learner.
    NOT_SUPPORTED_FOR_LEARNER = FailedPrecondition "etcdserver: rpc not supported for learner";
    /// A peer of another cluster.
    CLUSTER_ID_MISMATCH = FailedPrecondition "etcdserver: cluster ID mismatch";

    // Maintenance.

    /// MoveLeader sent to a follower.
    NOT_LEADER = FailedPrecondition "etcdserver: not leader";
    /// MoveLeader to a member that can't lead.
    BAD_LEADER_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee";
    /// MoveLeader ran into its deadline.
    TIMEOUT_LEADER_TRANSFER = Unknown "etcdserver: request timed out, leader transfer took too long";
    /// Downgrade to something that is no version.
    WRONG_DOWNGRADE_VERSION_FORMAT = InvalidArgument "etcdserver: wrong downgrade target version format";
    /// Downgrade to anything but one minor version below.
    INVALID_DOWNGRADE_VERSION = InvalidArgument "etcdserver: invalid downgrade target version";
    /// Downgrade before the cluster version is known.
    CLUSTER_VERSION_UNAVAILABLE = FailedPrecondition "etcdserver: cluster version not found during downgrade";
    /// A second downgrade.
    DOWNGRADE_IN_PROGRESS = FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    /// Cancelling a downgrade that doesn't run.
    NO_INFLIGHT_DOWNGRADE = FailedPrecondition "etcdserver: no inflight downgrade job";
    /// A downgrade action that doesn't exist.
    UNKNOWN_METHOD = Unknown "etcdserver: unknown method";

    // Auth.

    /// AuthEnable without the user root.
    ROOT_USER_NOT_EXIST = FailedPrecondition "etcdserver: root user does not exist";
    /// AuthEnable while root lacks the role root.
    ROOT_ROLE_NOT_GRANTED = FailedPrecondition "etcdserver: root user does not have root role";
    /// UserAdd of a name in use.
    USER_EXISTS = FailedPrecondition "etcdserver: user name already exists";
    /// An empty user name, or no credentials while auth is on.
    USER_EMPTY = InvalidArgument "etcdserver: user name is empty";
    /// An unknown user.
    USER_NOT_FOUND = FailedPrecondition "etcdserver: user name not found";
    /// RoleAdd of a name in use.
    ROLE_EXISTS = FailedPrecondition "etcdserver: role name already exists";
    /// An unknown role.
    ROLE_NOT_FOUND = FailedPrecondition "etcdserver: role name not found";
    /// RoleAdd without a name.
    ROLE_EMPTY = InvalidArgument "etcdserver: role name is empty";
    /// A wrong name or password.
    AUTH_FAILED = InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    /// RoleGrantPermission without a permission.
    PERMISSION_NOT_GIVEN = InvalidArgument "etcdserver: permission not given";
    /// The user may not.
    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";
    /// UserRevokeRole of a role the user doesn't have.
    ROLE_NOT_GRANTED = FailedPrecondition "etcdserver: role is not granted to the user";
    /// RoleRevokePermission of a permission the role doesn't have.
    PERMISSION_NOT_GRANTED = FailedPrecondition "etcdserver: permission is not granted to the role";
    /// Authenticate while auth is off.
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    /// An unknown or expired token.
    INVALID_AUTH_TOKEN = Unauthenticated "etcdserver: invalid auth token";
    /// A change that root must be kept from, or a bad range in a permission.
    INVALID_AUTH_MANAGEMENT = InvalidArgument "etcdserver: invalid auth management";
    /// The token is older than the last change of users and roles.
    AUTH_OLD_REVISION = InvalidArgument "etcdserver: revision of auth store is old";
    /// Authenticate of a user without a password; a password hash that can't be read.
    NO_PASSWORD_USER = Unknown "auth: authentication failed, password was given for no password user";
    /// A token provider that only has a public key.
    VERIFY_ONLY_KEY = Unknown "auth: token signing attempted with verify-only key";
    /// A password longer than bcrypt takes.
    PASSWORD_TOO_LONG = Unknown "bcrypt: password length exceeds 72 bytes";

    // The server's state, and time.

    /// No leader is known.
    NO_LEADER = Unavailable "etcdserver: no leader";
    /// A linearizable read was overtaken by an election.
    LEADER_CHANGED = Unavailable "etcdserver: leader changed";
    /// The server is shutting down.
    STOPPED = Unavailable "etcdserver: server stopped";
    /// The request took longer than the server waits.
    TIMEOUT = Unavailable "etcdserver: request timed out";
    /// The same, begun around the loss of a leader.
    TIMEOUT_LEADER_FAILURE = Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    /// The same, while the leader wasn't connected.
    TIMEOUT_CONNECTION_LOST = Unavailable "etcdserver: request timed out, possibly due to connection lost";
    /// Too much is waiting to be applied.
    TOO_MANY_REQUESTS = Unknown "etcdserver: too many requests";
    /// The cluster's capabilities are not known yet.
    NOT_CAPABLE = FailedPrecondition "etcdserver: not capable";
    /// The server gave the request up.
    REQUEST_CANCELED = Canceled "etcdserver: request canceled";
    /// A deadline of the server's own.
    SERVER_DEADLINE_EXCEEDED = DeadlineExceeded "etcdserver: context deadline exceeded";
    /// The caller's own cancellation.
    CONTEXT_CANCELED = Canceled "context canceled";
    /// The caller's own deadline.
    CONTEXT_DEADLINE_EXCEEDED = DeadlineExceeded "context deadline exceeded";

    // Health, Lock, Election, and streams that begin with a request.

    /// A streaming call whose request never came: grpc-go's status.
    NO_REQUEST = Unknown "EOF";
    /// Health check of a service other than "".
    HEALTH_UNKNOWN_SERVICE = NotFound "unknown service";
    /// Proclaim or Resign without a leader key.
    ELECTION_MISSING_LEADER_KEY = Unknown "\"leader\" field must be provided";
    /// Proclaim by one that doesn't lead.
    ELECTION_NOT_LEADER = Unknown "election: not leader";
    /// Leader of an election that has none.
    ELECTION_NO_LEADER = Unknown "election: no leader";
    /// Lock with a lease that ran out.
    MUTEX_SESSION_EXPIRED = Unknown "mutex: session is expired";
    /// Lock whose wait broke off.
    LOCK_LOST_WATCHER = Unknown "lost watcher waiting for delete";
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_text_stands_for_one_error_and_travels_unencoded() {
        let mut seen = HashMap::new();
        for (name, status) in ALL {
            assert_ne!(status.code, Code::Ok, "{name}");
            assert_eq!(seen.insert(status.message.clone(), name), None, "{name} has the text of another error");
            assert_eq!(status.trailers()["grpc-message"], status.message.as_ref(), "{name}");
        }
    }
}
