//! Requests and responses of the model: etcd's, with the fields that decide behaviour, and nothing of protos.

/// A stored pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyValue {
    /// The user's key.
    pub key: Vec<u8>,
    /// The user's value.
    pub value: Vec<u8>,
    /// Revision of the first put after the key was absent.
    pub create_revision: i64,
    /// Revision of the last put.
    pub mod_revision: i64,
    /// Puts since it was absent.
    pub version: i64,
    /// Lease that it hangs on, 0 for none.
    pub lease: i64,
}

/// What a range is sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortTarget {
    /// By key.
    #[default]
    Key,
    /// By version.
    Version,
    /// By create revision.
    Create,
    /// By mod revision.
    Mod,
    /// By value.
    Value,
}

/// In which direction a range is sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SortOrder {
    /// Not asked for.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// Reads keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub struct Range {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub limit: i64,
    pub revision: i64,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod_revision: i64,
    pub max_mod_revision: i64,
    pub min_create_revision: i64,
    pub max_create_revision: i64,
}

/// Writes a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub struct Put {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// Deletes keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub struct DeleteRange {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub prev_kv: bool,
}

/// What a compare looks at, and the value that the request gives for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value.
    Value(Vec<u8>),
    /// The lease.
    Lease(i64),
}

/// How the stored value must stand to the given one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// stored = given
    Equal,
    /// stored > given
    Greater,
    /// stored < given
    Less,
    /// stored ≠ given
    NotEqual,
    /// A number that no relation has; always true.
    Unknown,
}

/// A condition of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compare {
    /// First key.
    pub key: Vec<u8>,
    /// End of the range, by the conventions of [`Range`].
    pub range_end: Vec<u8>,
    /// What is compared.
    pub target: Target,
    /// How.
    pub relation: Relation,
}

/// A transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Request>,
    pub failure: Vec<Request>,
}

/// A request, alone or as an operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Reads keys.
    Range(Range),
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// A transaction.
    Txn(Txn),
    /// An operation of a transaction in which nothing is set.
    Empty,
}

/// The answer to a [`Request`]. Revisions are those of the response's header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are etcd's, and contract and proto describe them")]
pub enum Response {
    Range { revision: i64, kvs: Vec<KeyValue>, more: bool, count: i64 },
    Put { revision: i64, prev_kv: Option<KeyValue> },
    DeleteRange { revision: i64, deleted: i64, prev_kvs: Vec<KeyValue> },
    Txn { revision: i64, succeeded: bool, responses: Vec<Response> },
}

impl Response {
    /// The revision in its header.
    #[must_use]
    pub fn revision(&self) -> i64 {
        match self {
            Self::Range { revision, .. }
            | Self::Put { revision, .. }
            | Self::DeleteRange { revision, .. }
            | Self::Txn { revision, .. } => *revision,
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refused {
    /// An empty key.
    KeyNotProvided,
    /// `ignore_value` or `ignore_lease` of a key that isn't there, or an empty operation.
    KeyNotFound,
    /// `ignore_value` with a value.
    ValueProvided,
    /// `ignore_lease` with a lease.
    LeaseProvided,
    /// More operations than a transaction may have.
    TooManyOps,
    /// A transaction that writes a key twice.
    DuplicateKey,
    /// A revision below the compacted one.
    Compacted,
    /// A revision above the current one.
    FutureRevision,
    /// A lease that doesn't exist.
    LeaseNotFound,
}

impl Refused {
    /// etcd's message.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::KeyNotProvided => "etcdserver: key is not provided",
            Self::KeyNotFound => "etcdserver: key not found",
            Self::ValueProvided => "etcdserver: value is provided",
            Self::LeaseProvided => "etcdserver: lease is provided",
            Self::TooManyOps => "etcdserver: too many operations in txn request",
            Self::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Self::Compacted => "etcdserver: mvcc: required revision has been compacted",
            Self::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
            Self::LeaseNotFound => "etcdserver: requested lease not found",
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Refused {}
