//! A client whose calls wait for their answers.

use std::net::SocketAddr;

use bytes::Bytes;
use plinth_client::{Client, Status};
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

/// Status has its own words; cases need them as a failure.
pub(crate) fn failed(what: &str) -> impl Fn(Status) -> Ended {
    move |status| Ended::Failed(format!("{what}: {status}"))
}
