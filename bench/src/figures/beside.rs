//! Puts without something, and puts beside it: each run on a fresh copy of the same directory.

use std::path::Path;

use super::table::Sheet;
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Clients, Op, Outcome, Pace, Plan, Shape},
    server::{Cluster, Program, Server},
};

/// Who puts.
pub const CLIENTS: Clients = Clients { connections: 8, streams: 64 };
/// What the figure is called that [`add_pair`] adds.
pub const P99: &str = "put p99, in parts of that without";

/// Puts, and the server that they go to.
#[derive(Clone, Copy, Debug)]
pub struct Puts<'a> {
    pub lab: &'a Lab,
    pub program: &'a Program,
    /// The directory that is copied.
    pub filled: &'a Path,
    pub shape: Shape,
    pub pace: Pace,
}

impl Puts<'_> {
    /// As long as the method says, with nothing beside them.
    pub fn without(&self, flags: &[String]) -> Result<Outcome, Failure> {
        let run = || {
            let server = self.start(flags)?;
            let puts = load::run(&self.plan(&server))?;
            server.stop()?;
            Ok(puts)
        };
        self.lab.undisturbed(|puts: &Outcome| puts.disturbance, run)
    }

    /// As long as `work` takes.
    pub fn beside<T: Send>(
        &self,
        flags: &[String],
        work: impl Fn(&Server) -> Result<T, Failure> + Sync,
    ) -> Result<(Outcome, T), Failure> {
        let run = || {
            let server = self.start(flags)?;
            let (puts, given) = load::run_during(&self.plan(&server), || work(&server))?;
            server.stop()?;
            Ok((puts, given))
        };
        self.lab.undisturbed(|(puts, _): &(Outcome, T)| puts.disturbance, run)
    }

    /// Half of the rate that a closed loop reaches: there a server that is slow for a moment shows it, and isn't asked less.
    pub fn half_rate(&self) -> Result<Pace, Failure> {
        let reached = Self { pace: Pace::Closed, ..*self }.without(&[])?;
        Ok(Pace::Open { rate: reached.per_second() / 2.0 })
    }

    fn start(&self, flags: &[String]) -> Result<Server, Failure> {
        self.lab.start_on_copy_with(self.program, self.filled, &[self.lab.server_core], flags)
    }

    fn plan(&self, server: &Server) -> Plan {
        Plan { pace: self.pace, shape: self.shape, ..self.lab.plan(server, Op::Put, CLIENTS) }
    }
}

/// Puts to the first member, which leads. All members run on all cores, and so does the load.
#[must_use]
pub fn plan_of_cluster(lab: &Lab, cluster: &Cluster, pace: Pace) -> Plan {
    let members = cluster.members();
    let watched = members.iter().map(Server::watched).collect();
    Plan { pace, watched, core: None, ..lab.plan_at(members[0].endpoint(), Op::Put, CLIENTS) }
}

/// Both runs of a pair, and how they compare. Puts that failed have no latency; how many did is told.
pub fn add_pair(sheet: &mut Sheet, without: &Outcome, beside: &Outcome) {
    for (how, puts) in [(", without", without), (", beside it", beside)] {
        sheet.add_puts(how, puts);
        let failed: u64 = puts.errors.iter().map(|errors| errors.count).sum();
        sheet.add(format!("puts that failed{how}"), 0, failed as f64);
    }
    let ratio = |quantile| {
        let of = |puts: &Outcome| puts.latencies.quantile_us(quantile).unwrap_or(f64::NAN);
        of(beside) / of(without)
    };
    sheet.add(P99, 2, ratio(0.99));
    sheet.add("put p99.9, in parts of that without", 2, ratio(0.999));
}
