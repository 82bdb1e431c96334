//! What a put by one client takes at best in a cluster, measured without any server just before a turn of one: a round trip between client and leader, one between
//! leader and follower, and a write that is durable.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    disk_write,
    failure::Failure,
    histogram::Latencies,
    lab::Lab,
    procfs::{CpuSample, Disturbance},
    round_trip,
    server::MEMBERS,
};

/// For each of the three.
const MEASURED: Duration = Duration::from_secs(1);

/// Medians in µs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bare {
    /// Over loopback, between two threads on the cores that members and load share.
    pub round_trip_us: f64,
    /// 4 KiB, direct, with RWF_DSYNC, with the disk to itself.
    pub write_us: f64,
    /// The same while as many write as there are members, whose disk is the same.
    pub write_together_us: f64,
    /// What others did meanwhile. A thread that sleeps for each write is soon made to wait: what others do shows here more than in a server that keeps its cores busy.
    pub disturbance: Disturbance,
}

impl Bare {
    /// Measures all of it.
    pub fn measure(lab: &Lab, cores: &[usize]) -> Result<Self, Failure> {
        let write_us = |count| Ok(p50(&disk_write::measure_together(lab.dir(), count, cores, MEASURED)?));
        let look = || CpuSample::read().map_err(|error| Failure::Trouble(format!("reading /proc: {error}")));
        let before = look()?;
        let round_trip_us = p50(&round_trip::measure(cores, MEASURED)?);
        let (write_us, write_together_us) = (write_us(1)?, write_us(MEMBERS)?);
        let disturbance = look()?.since(&before, &[std::process::id()]);
        Ok(Self { round_trip_us, write_us, write_together_us, disturbance })
    }

    /// Two round trips and a write.
    #[must_use]
    pub fn put_us(&self) -> f64 {
        2.0 * self.round_trip_us + self.write_us
    }

    /// For a results file.
    #[must_use]
    pub fn to_json(self) -> Value {
        let Self { round_trip_us, write_us, write_together_us, disturbance } = self;
        json!({
            "round_trip_p50_us": round_trip_us,
            "write_p50_us": write_us,
            "write_together_p50_us": write_together_us,
            "steal_percent": disturbance.steal_percent,
            "foreign_percent": disturbance.foreign_percent,
        })
    }
}

fn p50(latencies: &Latencies) -> f64 {
    latencies.quantile_us(0.5).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_takes_two_round_trips_and_one_write() {
        let disturbance = Disturbance { steal_percent: 0.0, foreign_percent: 0.0 };
        let bare = Bare { round_trip_us: 20.0, write_us: 100.0, write_together_us: 170.0, disturbance };
        assert_eq!(bare.put_us(), 140.0);
    }
}
