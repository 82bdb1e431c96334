//! How late events are.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use super::super::work::STAMP_BYTES;
use crate::histogram::Latencies;

/// Latencies of events: from when the put that a value comes from was sent, or due, until the event was read.
#[derive(Debug)]
pub struct EventTimes {
    /// Stamps count from here.
    epoch: Instant,
    /// While they are measured.
    latencies: RefCell<Option<Latencies>>,
}

impl EventTimes {
    /// Not measuring yet.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, latencies: RefCell::new(None) }
    }

    /// Stamps count from here.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// From here on latencies are measured.
    pub fn begin(&self) {
        self.latencies.replace(Some(Latencies::new()));
    }

    /// The latencies that were measured.
    pub fn end(&self) -> Latencies {
        self.latencies.take().unwrap_or_else(Latencies::new)
    }

    /// A value came at `now`.
    pub fn note(&self, value: &[u8], now: Instant) -> Result<(), String> {
        if let Some(latencies) = self.latencies.borrow_mut().as_mut() {
            let stamp = value.first_chunk::<STAMP_BYTES>().ok_or("a value without its time")?;
            let sent = self.epoch + Duration::from_nanos(u64::from_le_bytes(*stamp));
            latencies.record(now.saturating_duration_since(sent));
        }
        Ok(())
    }
}
