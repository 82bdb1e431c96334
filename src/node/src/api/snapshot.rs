//! Snapshot: a backup that etcd's tools take, made of one root while it is sent.
//!
//! The stream is a bbolt file in blobs of 32 KiB, and at last the SHA-256 of all of it. The file's first pages name its last one, so the root is walked
//! twice: first for the sizes alone, which stand in the tree `log`, then for the bytes. Neither takes memory that grows with the store.
//!
//! What a compaction would remove is kept meanwhile, and once that can't wait any longer (or in a store with very many leases) all pages of a root. So a
//! client has a budget: it must go on reading, not too slowly, and what is kept for it must not become too much. One that doesn't keep to it gets an
//! error.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use plinth_base::Instant;
use plinth_env::Env;
use plinth_rpc::{Code, Frame, Gone, Replies, Requests, Status, errors, etcdserverpb as pb};
use plinth_snapshot::{Builder, Layout};
use sha2::{Digest, Sha256};

use super::{
    Api,
    backend::{BackendSink, SLICE_BYTES_MAX},
    decode,
};
use crate::{
    budget::{Budget, Use},
    published::{GroupStatus, Published},
};

/// Bytes of a blob but the last.
const BLOB_BYTES: usize = 32 << 10;

/// How long one blob may wait for its client.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A client must take so many bytes per second on average, once [`STALL_MAX`] has passed.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// What a snapshot may keep from being used again, in bytes of the tree file. Half of what the quota has left is the limit if that is less: nobody
/// else shall be refused for want of space because of a backup.
const HELD_BYTES_MAX: i64 = 1 << 30;

/// But so much is always granted: a store that is nearly full needs its backup most.
const HELD_BYTES_MIN: i64 = 64 << 20;

/// What a client is told that reads too slowly.
const TOO_SLOW: Status = Status::fixed(
    Code::ResourceExhausted,
    "etcdserver: the snapshot was not read in time, and can't be held any longer",
);

impl<E: Env> Api<E> {
    /// Streams a backup of the newest published root.
    pub(super) async fn snapshot(&self, mut requests: impl Requests, mut replies: impl Replies) -> Result<(), Status> {
        match requests.next().await {
            Some(request) => {
                let pb::SnapshotRequest {} = decode(request?)?;
            }
            None => return Err(Status::fixed(Code::Internal, "unexpected EOF")),
        }
        let mut origin = self.backend_origin().await?;
        let mut measure = Measure { env: self.executor.env(), builder: Builder::measure() };
        self.walk_backend(&mut origin, &mut measure).await?;
        let layout = measure.builder.finish();
        let mut upload = Upload::new(self, layout, &mut replies);
        self.walk_backend(&mut origin, &mut upload).await?;
        upload.finish().await
    }
}

/// Finds out the file's layout.
struct Measure<'a, E> {
    env: &'a E,
    builder: Builder,
}

impl<E: Env> BackendSink for Measure<'_, E> {
    const WITH_VALUES: bool = false;

    fn begin_bucket(&mut self, name: &'static str) {
        self.builder.begin_bucket(name.as_bytes());
    }

    fn begin_pair(&mut self, key: &[u8], value_bytes: usize) {
        self.builder.begin_pair(key, value_bytes);
    }

    fn value_part(&mut self, _: &[u8]) {
        unreachable!("it asks for none");
    }

    fn is_full(&self) -> bool {
        false
    }

    async fn pause(&mut self) -> Result<(), Status> {
        self.env.yield_now().await;
        Ok(())
    }
}

/// Builds the file and sends it.
struct Upload<'a, E: Env, R> {
    env: &'a E,
    budget: &'a Budget,
    group: &'a Published<E::Pages>,
    version: String,
    replies: &'a mut R,
    builder: Builder,
    digest: Sha256,
    file_bytes: u64,
    sent_bytes: u64,
    began: Instant,
    /// The most that may be freed in the tree file and wait for old roots to end.
    pending_bytes_max: i64,
}

impl<'a, E: Env, R: Replies> Upload<'a, E, R> {
    fn new(api: &'a Api<E>, layout: Layout, replies: &'a mut R) -> Self {
        let (env, group) = (api.executor.env(), api.group());
        Self {
            env,
            budget: &api.shard().budget,
            group,
            version: super::maintenance::storage_version(api.options.version),
            replies,
            builder: Builder::write(layout),
            digest: Sha256::new(),
            file_bytes: layout.file_bytes(),
            sent_bytes: 0,
            began: env.now(),
            pending_bytes_max: group.status.pending_bytes() + held_bytes_max(&group.status, api.options.quota_bytes),
        }
    }

    /// Sends what is ready: whole blobs, and at the end the rest.
    async fn send_ready(&mut self, at_end: bool) -> Result<(), Status> {
        loop {
            let ready = self.builder.ready();
            let bytes = ready.len().min(BLOB_BYTES);
            if bytes == 0 || bytes < BLOB_BYTES && !at_end {
                return Ok(());
            }
            let blob = Bytes::copy_from_slice(&ready[..bytes]);
            self.builder.take(bytes);
            self.digest.update(&blob);
            self.sent_bytes += bytes as u64;
            self.send(blob).await?;
        }
    }

    async fn send(&mut self, blob: Bytes) -> Result<(), Status> {
        let remaining_bytes = self.file_bytes - self.sent_bytes;
        let message = pb::SnapshotResponse { header: None, remaining_bytes, blob, version: self.version.clone() };
        if self.group.status.pending_bytes() > self.pending_bytes_max {
            return Err(self.give_up());
        }
        // Whoever was fast so far has earned no time for a pause, or only as much as anybody.
        let (now, frame) = (self.env.now(), Frame::encode(&message));
        let on_average = self.began + STALL_MAX + Duration::from_secs(self.sent_bytes / BYTES_PER_SECOND_MIN);
        let deadline = on_average.min(now + STALL_MAX);
        match before(self.env.sleep_until(deadline), self.replies.send(frame)).await {
            Some(sent) => sent.map_err(|Gone| errors::CONTEXT_CANCELED),
            None => Err(self.give_up()),
        }
    }

    fn give_up(&self) -> Status {
        plinth_base::log_warn!(
            "a snapshot was given up: its client reads too slowly",
            "sent_bytes" => self.sent_bytes,
            "bytes" => self.file_bytes
        );
        TOO_SLOW
    }

    async fn finish(mut self) -> Result<(), Status> {
        self.builder.finish();
        self.send_ready(true).await?;
        assert_eq!(self.sent_bytes, self.file_bytes, "the file has the size that was measured");
        let digest = std::mem::take(&mut self.digest).finalize();
        self.send(Bytes::copy_from_slice(&digest)).await
    }
}

impl<E: Env, R: Replies> BackendSink for Upload<'_, E, R> {
    const WITH_VALUES: bool = true;

    fn begin_bucket(&mut self, name: &'static str) {
        self.builder.begin_bucket(name.as_bytes());
    }

    fn begin_pair(&mut self, key: &[u8], value_bytes: usize) {
        self.builder.begin_pair(key, value_bytes);
    }

    fn value_part(&mut self, part: &[u8]) {
        self.builder.value_part(part);
    }

    fn is_full(&self) -> bool {
        self.builder.ready().len() >= SLICE_BYTES_MAX
    }

    async fn pause(&mut self) -> Result<(), Status> {
        let (now, bytes) = (self.env.now(), self.builder.ready().len() as u64);
        let wait = self.budget.take(now, Use::Backup, bytes);
        if wait.is_zero() {
            self.env.yield_now().await;
        } else {
            self.env.sleep(wait).await;
            // What its own side takes is not the client's.
            self.began = self.began + wait;
        }
        self.send_ready(false).await
    }
}

fn held_bytes_max(status: &GroupStatus, quota_bytes: Option<u64>) -> i64 {
    let room = |quota: u64| i64::try_from(quota).unwrap_or(i64::MAX).saturating_sub(status.total_bytes());
    quota_bytes.map_or(HELD_BYTES_MAX, |quota| (room(quota) / 2).clamp(HELD_BYTES_MIN, HELD_BYTES_MAX))
}

/// What `work` gives, unless `timer` is over first.
async fn before<T>(timer: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    let (mut timer, mut work) = (pin!(timer), pin!(work));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}
