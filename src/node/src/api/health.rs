//! Health: what the HTTP endpoints ask, and the streams of gRPC's health service.

use plinth_env::Env;
use plinth_rpc::{Frame, Replies, Requests, Status, errors, etcdserverpb as pb, health};

use super::{Api, decode, maintenance::alarm_name};

/// The answers that /health, /livez and /readyz are made of.
impl<E: Env> Api<E> {
    /// Names of the alarms that are raised.
    #[must_use]
    pub fn alarm_names(&self) -> Vec<&'static str> {
        self.root().state.alarms.iter().map(|(_, kind)| alarm_name(*kind)).collect()
    }

    /// Whether this member knows a leader.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.group().status.leader() != 0
    }

    /// Whether this member is the leader.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.group().status.leader() == self.options.member_id
    }

    /// How many keys there are now.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        // Of the whole tree: the root knows it, so nothing can be missing.
        self.root().snapshot.view().totals(plinth_kv::trees::LIVE, &[], None).map_or(0, |totals| totals.entries)
    }

    /// Reads something, with or without the leader's confirmation.
    ///
    /// # Errors
    /// The text of what went wrong.
    pub async fn probe_read(&self, serializable: bool) -> Result<(), String> {
        let request =
            pb::RangeRequest { key: vec![0].into(), limit: 1, keys_only: true, serializable, ..Default::default() };
        self.range(request).await.map(drop).map_err(|status| status.message.into_owned())
    }
}

/// gRPC's health service.
impl<E: Env> Api<E> {
    /// gRPC's health service knows one name: the empty one.
    pub(super) fn health_check(
        &self,
        request: &health::HealthCheckRequest,
    ) -> Result<health::HealthCheckResponse, Status> {
        if !request.service.is_empty() {
            return Err(errors::HEALTH_UNKNOWN_SERVICE);
        }
        Ok(health::HealthCheckResponse { status: health::health_check_response::ServingStatus::Serving as i32 })
    }

    /// Tells how a service is, at once and whenever that changes: it doesn't as long as there is somebody to tell it.
    pub(super) async fn health_watch(
        &self,
        mut requests: impl Requests,
        mut replies: impl Replies,
    ) -> Result<(), Status> {
        use health::health_check_response::ServingStatus::ServiceUnknown;
        let request: health::HealthCheckRequest = decode(requests.next().await.ok_or(errors::NO_REQUEST)??)?;
        let unknown = health::HealthCheckResponse { status: ServiceUnknown as i32 };
        replies.send(Frame::encode(&self.health_check(&request).unwrap_or(unknown))).await?;
        std::future::pending().await
    }

    /// How all services are: there is one, without a name.
    pub(super) fn health_list(&self, _: health::HealthListRequest) -> Result<health::HealthListResponse, Status> {
        let health = self.health_check(&health::HealthCheckRequest::default())?;
        Ok(health::HealthListResponse { statuses: [(String::new(), health)].into() })
    }
}
