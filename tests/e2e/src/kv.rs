//! A client whose calls wait for their answers.

use std::net::SocketAddr;

use bytes::Bytes;
use plinth_client::{Client, Code, Incoming, Status};
use plinth_rpc::etcdserverpb as pb;
use tokio::runtime::{Builder, Runtime};

use crate::outcome::Ended;

/// One connection. What the server says comes back as it is: cases expect errors too.
pub(crate) struct Kv {
    runtime: Runtime,
    client: Client,
}

impl Kv {
    pub(crate) fn connect(addr: SocketAddr) -> Result<Self, Ended> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(addr)).map_err(|status| Ended::Failed(status.to_string()))?;
        Ok(Self { runtime, client })
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Result<(), Status> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value));
        let request = pb::PutRequest { key, value, ..Default::default() };
        self.runtime.block_on(self.client.put(&request)).map(drop)
    }

    /// The value of `key`; none if there is no such key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Bytes>, Status> {
        let request = pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        let answer = self.runtime.block_on(self.client.range(&request))?;
        Ok(answer.kvs.into_iter().next().map(|kv| kv.value))
    }

    /// Deletes one key; whether it was there.
    pub(crate) fn delete(&self, key: &str) -> Result<bool, Status> {
        let request = pb::DeleteRangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        Ok(self.runtime.block_on(self.client.delete_range(&request))?.deleted > 0)
    }

    /// The keys that begin with `prefix`, which ends below 0xff.
    pub(crate) fn count(&self, prefix: &str) -> Result<i64, Status> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let key = Bytes::copy_from_slice(prefix.as_bytes());
        let request = pb::RangeRequest { key, range_end: end.into(), count_only: true, ..Default::default() };
        Ok(self.runtime.block_on(self.client.range(&request))?.count)
    }

    /// Compacts, and waits until it is through.
    pub(crate) fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = pb::CompactionRequest { revision, physical: true };
        self.call::<pb::CompactionResponse>("/etcdserverpb.KV/Compact", &request).map(drop)
    }

    pub(crate) fn grant(&self, id: i64, ttl: i64) -> Result<(), Status> {
        let request = pb::LeaseGrantRequest { id, ttl };
        self.call::<pb::LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &request).map(drop)
    }

    pub(crate) fn put_with_lease(&self, key: &str, value: &[u8], lease: i64) -> Result<(), Status> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value));
        let request = pb::PutRequest { key, value, lease, ..Default::default() };
        self.runtime.block_on(self.client.put(&request)).map(drop)
    }

    /// Deletes keys at one revision.
    pub(crate) fn delete_in_txn(&self, keys: &[&str]) -> Result<(), Status> {
        let delete = |key: &&str| {
            let request = pb::DeleteRangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(request)) }
        };
        let request = pb::TxnRequest { success: keys.iter().map(delete).collect(), ..Default::default() };
        self.call::<pb::TxnResponse>("/etcdserverpb.KV/Txn", &request).map(drop)
    }

    /// The ids of all leases, ascending.
    pub(crate) fn leases(&self) -> Result<Vec<i64>, Status> {
        let answer: pb::LeaseLeasesResponse =
            self.call("/etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest::default())?;
        let mut ids: Vec<_> = answer.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        self.call("/etcdserverpb.Maintenance/HashKV", &pb::HashKvRequest { revision })
    }

    pub(crate) fn hash(&self) -> Result<pb::HashResponse, Status> {
        self.call("/etcdserverpb.Maintenance/Hash", &pb::HashRequest::default())
    }

    pub(crate) fn defragment(&self) -> Result<(), Status> {
        self.call::<pb::DefragmentResponse>("/etcdserverpb.Maintenance/Defragment", &pb::DefragmentRequest::default())
            .map(drop)
    }

    pub(crate) fn status(&self) -> Result<pb::StatusResponse, Status> {
        self.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest::default())
    }

    /// Takes a whole snapshot; its blobs must be what their messages say. Gives the file without the digest.
    pub(crate) fn snapshot(&self) -> Result<Vec<u8>, Status> {
        let mut stream = self.begin_snapshot()?;
        let (mut file, mut announced) = (Vec::new(), None);
        while let Some(message) = self.runtime.block_on(stream.0.next::<pb::SnapshotResponse>())? {
            let bytes = file.len();
            let wrong = |what: &str| Status::new(Code::INTERNAL, format!("{what} after {bytes} bytes: {announced:?}"));
            match announced {
                // The digest comes last, and counts for nothing.
                Some(0) if message.blob.len() == 32 && message.remaining_bytes == 0 => {}
                Some(0) => return Err(wrong("no digest")),
                Some(left) if left != message.remaining_bytes + message.blob.len() as u64 => {
                    return Err(wrong("bytes are missing"));
                }
                _ => {}
            }
            if announced != Some(0) {
                file.extend_from_slice(&message.blob);
            }
            announced = Some(message.remaining_bytes);
        }
        Ok(file)
    }

    /// Begins a snapshot and reads one message of it; nothing more as long as it is kept.
    pub(crate) fn half_a_snapshot(&self) -> Result<HalfSnapshot, Status> {
        let mut stream = self.begin_snapshot()?;
        self.runtime.block_on(stream.0.next::<pb::SnapshotResponse>())?;
        Ok(stream)
    }

    fn begin_snapshot(&self) -> Result<HalfSnapshot, Status> {
        let path = "/etcdserverpb.Maintenance/Snapshot";
        self.runtime.block_on(self.client.server_stream(path, &pb::SnapshotRequest::default())).map(HalfSnapshot)
    }

    fn call<T: prost::Message + Default>(
        &self,
        path: &'static str,
        request: &impl prost::Message,
    ) -> Result<T, Status> {
        self.runtime.block_on(self.client.unary(path, request))
    }

    /// The alarms that are raised.
    pub(crate) fn alarms(&self) -> Result<Vec<pb::AlarmMember>, Status> {
        self.alarm(pb::alarm_request::AlarmAction::Get, pb::AlarmMember::default())
    }

    /// Takes all alarms back, as `etcdctl alarm disarm` does.
    pub(crate) fn disarm(&self) -> Result<(), Status> {
        for raised in self.alarms()? {
            self.alarm(pb::alarm_request::AlarmAction::Deactivate, raised)?;
        }
        Ok(())
    }

    fn alarm(
        &self,
        action: pb::alarm_request::AlarmAction,
        alarm: pb::AlarmMember,
    ) -> Result<Vec<pb::AlarmMember>, Status> {
        let request = pb::AlarmRequest { action: action.into(), member_id: alarm.member_id, alarm: alarm.alarm };
        let answer: pb::AlarmResponse =
            self.runtime.block_on(self.client.unary("/etcdserverpb.Maintenance/Alarm", &request))?;
        Ok(answer.alarms)
    }
}

/// A snapshot under way.
pub(crate) struct HalfSnapshot(Incoming);

/// Status has its own words; cases need them as a failure.
pub(crate) fn failed(what: &str) -> impl Fn(Status) -> Ended {
    move |status| Ended::Failed(format!("{what}: {status}"))
}
