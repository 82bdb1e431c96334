//! What the HTTP health endpoints ask.

use plinth_env::Env;
use plinth_rpc::etcdserverpb as pb;

use super::{Api, maintenance::alarm_name};

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
