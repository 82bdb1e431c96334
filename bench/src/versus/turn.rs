//! One turn of one server: started on a fresh copy of a filled directory, driven, looked at, stopped.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use serde_json::{Value, json};

use super::bare::Bare;
use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Outcome, Plan, Told, Watched},
    procfs::Disturbance,
    results,
    server::{Cluster, Home, Lead, Program, Server},
};

/// Which members of a cluster the load talks to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Target {
    /// The one that leads, so that both clusters do the same for a request: which member becomes leader is chance.
    #[default]
    Leader,
    /// All of them in turn, connection by connection, as clients with all endpoints are: two of three requests are passed on.
    All,
}

/// What is started for a turn, and how.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The server.
    pub program: &'a Program,
    /// Where it finds its data, which is copied.
    pub filled: &'a Home,
    /// Besides those that it always gets.
    pub flags: &'a [String],
    /// Of a cluster.
    pub target: Target,
    /// Whether the turn begins with measuring what a put can't do without.
    pub wants_bare: bool,
}

/// What a turn gave.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Of the load.
    pub outcome: Outcome,
    /// From starting the server until it answered a linearizable range; of a cluster, until every member did.
    pub start: Duration,
    /// Its database's size when the load had ended.
    pub db_bytes: u64,
    /// Whether it is a cluster's.
    pub is_cluster: bool,
    /// Whether the same member led before and afterwards, and nobody else did in between.
    pub has_led_on: bool,
    /// What its puts can't do without.
    pub bare: Option<Bare>,
}

impl Turn {
    /// Why it should not count.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.has_led_on {
            return Some("the leader changed".to_owned());
        }
        let bare = self.bare.map(|bare| ("before the load: ", bare.disturbance));
        let all = [Some(("", self.outcome.disturbance)), bare];
        let (when, found) = all.into_iter().flatten().find(|(_, disturbance)| disturbance.is_too_much())?;
        let Disturbance { steal_percent, foreign_percent } = found;
        Some(format!("{when}steal {steal_percent:.1} %, foreign CPU {foreign_percent:.1} %"))
    }

    /// All of it, for a results file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "start_seconds": self.start.as_secs_f64(),
            "db_bytes": self.db_bytes,
            "has_led_on": self.has_led_on,
            "bare": self.bare.map(Bare::to_json),
            "load": results::encode(&Told::of(&self.outcome)),
        })
    }
}

/// Takes a turn with the load that `plan` makes for these endpoints.
pub fn take(
    lab: &Lab,
    start: Start<'_>,
    plan: impl FnOnce(&[SocketAddr]) -> Result<Plan, Failure>,
) -> Result<Turn, Failure> {
    let home = lab.copy_of(start.filled)?;
    let (cores, is_cluster) = (lab.cores_of(&home), !home.is_alone());
    // When nothing else runs, and what was copied is written.
    let bare = start.wants_bare.then(|| Bare::measure(lab, &cores)).transpose()?;
    let mut cluster = Cluster::start(start.program, &home, &cores, start.flags)?;
    let started = cluster.wait_until_ready()?;
    let lead = cluster.lead_by_first()?;
    let planned = plan(&endpoints(&cluster, lead, start.target))?;
    // Members and load share all cores.
    let core = (!is_cluster).then_some(lab.load_core);
    let outcome = load::run(&Plan { watched: watched(&cluster, lead), core, ..planned })?;
    outcome.expect_no_errors()?;
    let has_led_on = cluster.await_lead()? == lead;
    let db_bytes = cluster.db_bytes()?;
    cluster.stop()?;
    Ok(Turn { outcome, start: started, db_bytes, is_cluster, has_led_on, bare })
}

fn endpoints(cluster: &Cluster, lead: Lead, target: Target) -> Vec<SocketAddr> {
    match target {
        Target::Leader => vec![cluster.members()[lead.member].endpoint()],
        Target::All => cluster.endpoints(),
    }
}

/// The leader first.
fn watched(cluster: &Cluster, lead: Lead) -> Vec<Watched> {
    let mut watched: Vec<_> = cluster.members().iter().map(Server::watched).collect();
    watched.swap(0, lead.member);
    watched
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "leader" => Ok(Self::Leader),
            "all" => Ok(Self::All),
            _ => Err(()),
        }
    }
}
