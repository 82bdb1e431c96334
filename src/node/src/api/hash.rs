//! Hash and HashKV: etcd's checksums of its backend, computed from the trees.
//!
//! Both are CRC-32C over names, keys and values one after the other, so that members, and servers of other makes that were given the same history, can be
//! compared. They look at this member alone.

use std::sync::Arc;

use plinth_base::crc32c;
use plinth_env::Env;
use plinth_kv::{AnyKey, Budget, Export, ExportEntry, ExportSink, ExportSpan, query::Progress};
use plinth_rpc::{Status, errors, etcdserverpb as pb};

use super::{
    Api,
    backend::{BackendSink, SLICE_BYTES_MAX, SLICE_ENTRIES},
    slice::READ_SLICE_ENTRIES,
};
use crate::published::Root;

/// The bucket that HashKV covers.
const KEY_BUCKET: &str = "key";

/// Pairs that members differ in.
const NOT_HASHED: &[(&str, &[u8])] = &[("meta", b"consistent_index"), ("meta", b"storageVersion"), ("meta", b"term")];

/// How often HashKV begins anew because a compaction took away what it was reading. A sweep waits ten seconds for it each time.
const ATTEMPTS_MAX: usize = 8;

impl<E: Env> Api<E> {
    /// The hash of all keys as they were at a revision, 0 for the current one.
    ///
    /// # Errors
    /// If the revision is compacted or in the future.
    pub async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, Status> {
        for _ in 0..ATTEMPTS_MAX {
            let root = self.root();
            let (current, compacted) = (root.state.revision, root.state.compacted);
            if request.revision > current {
                return Err(errors::FUTURE_REVISION);
            }
            if request.revision > 0 && request.revision < compacted {
                return Err(errors::COMPACTED);
            }
            let revision = if request.revision == 0 { current } else { request.revision };
            if let Some(hash) = self.hash_at(root, revision).await? {
                return Ok(pb::HashKvResponse {
                    header: Some(self.header(current)),
                    hash,
                    compact_revision: compacted,
                    hash_revision: revision,
                });
            }
        }
        Err(errors::COMPACTED)
    }

    /// The hash at `revision`, as the compaction in `root` has it. It goes on at newer roots, like a range; `None` if a later compaction was faster.
    async fn hash_at(&self, root: Arc<Root<E::Pages>>, revision: i64) -> Result<Option<u32>, Status> {
        let mut sink = KvHash { crc: crc32c(0, KEY_BUCKET.as_bytes()), slice_bytes: 0 };
        if revision < 0 {
            // etcd takes it, and finds nothing.
            return Ok(Some(sink.crc));
        }
        // What a later compaction takes away is needed until the end.
        let from = root.state.compacted.max(0);
        let _reading = self.group().readers.enter(from);
        let first = root.state.clone();
        drop(root);
        let Some(has_keys) = self.has_keys_at(revision, from).await? else { return Ok(None) };
        let mut export = Export::new(ExportSpan::hash_kv(&first, revision, has_keys), &first);
        loop {
            let root = self.root();
            if !root.state.holds(from) {
                return Ok(None);
            }
            sink.slice_bytes = 0;
            match export.run(root.snapshot.view(), &mut Budget::new(SLICE_ENTRIES), &mut sink) {
                Ok(Progress::Done) => return Ok(Some(sink.crc)),
                Ok(Progress::More | Progress::Full) => {
                    drop(root);
                    self.executor.env().yield_now().await;
                }
                Err(missing) => self.load(&root, missing).await?,
            }
        }
    }

    /// Whether any key exists at `revision`; `None` if a compaction was faster.
    async fn has_keys_at(&self, revision: i64, from: i64) -> Result<Option<bool>, Status> {
        let mut any = AnyKey::at(revision);
        loop {
            let root = self.root();
            if !root.state.holds(from) {
                return Ok(None);
            }
            match any.run(root.snapshot.view(), root.state.revision, &mut Budget::new(READ_SLICE_ENTRIES)) {
                Ok(Some(any)) => return Ok(Some(any)),
                Ok(None) => {
                    drop(root);
                    self.executor.env().yield_now().await;
                }
                Err(missing) => self.load(&root, missing).await?,
            }
        }
    }

    /// The hash of everything that the member stores, but for what members differ in anyway.
    ///
    /// # Errors
    /// If a page can't be read.
    pub async fn hash(&self, _: pb::HashRequest) -> Result<pb::HashResponse, Status> {
        let mut origin = self.backend_origin().await?;
        let mut sink = BackendHash { env: self.executor.env(), crc: 0, bucket: "", skips: false, slice_bytes: 0 };
        self.walk_backend(&mut origin, &mut sink).await?;
        Ok(pb::HashResponse { header: Some(self.header(origin.state.revision)), hash: sink.crc })
    }
}

struct KvHash {
    crc: u32,
    slice_bytes: usize,
}

impl ExportSink for KvHash {
    const WITH_VERSIONS: bool = true;

    fn is_full(&self) -> bool {
        self.slice_bytes >= SLICE_BYTES_MAX
    }

    fn push(&mut self, entry: &ExportEntry<'_>) {
        let mut crc = entry.with_backend_key(|key| crc32c(self.crc, key));
        entry.write_message(|part| crc = crc32c(crc, part));
        self.crc = crc;
        self.slice_bytes += entry.message_bytes;
    }
}

struct BackendHash<'a, E> {
    env: &'a E,
    crc: u32,
    bucket: &'static str,
    /// Whether the pair under way is left out.
    skips: bool,
    slice_bytes: usize,
}

impl<E: Env> BackendSink for BackendHash<'_, E> {
    const WITH_VALUES: bool = true;

    fn begin_bucket(&mut self, name: &'static str) {
        self.bucket = name;
        self.crc = crc32c(self.crc, name.as_bytes());
    }

    fn begin_pair(&mut self, key: &[u8], value_bytes: usize) {
        self.skips = NOT_HASHED.contains(&(self.bucket, key));
        if !self.skips {
            self.crc = crc32c(self.crc, key);
        }
        self.slice_bytes += value_bytes;
    }

    fn value_part(&mut self, part: &[u8]) {
        if !self.skips {
            self.crc = crc32c(self.crc, part);
        }
    }

    fn is_full(&self) -> bool {
        self.slice_bytes >= SLICE_BYTES_MAX
    }

    async fn pause(&mut self) -> Result<(), Status> {
        self.slice_bytes = 0;
        self.env.yield_now().await;
        Ok(())
    }
}
