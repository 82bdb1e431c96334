//! One turn of one server: started on a fresh copy of a filled directory, driven, looked at, stopped.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use crate::{
    failure::Failure,
    lab::Lab,
    load::{self, Outcome, Plan, Told},
    results,
    server::{Cluster, Home, Program, Server},
};

/// What a turn gave.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Of the load.
    pub outcome: Outcome,
    /// From starting the server until it answered a linearizable range; of a cluster, until every member did.
    pub start: Duration,
    /// Its database's size when the load had ended.
    pub db_bytes: u64,
}

impl Turn {
    /// All of it, for a results file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "start_seconds": self.start.as_secs_f64(), "db_bytes": self.db_bytes, "load": results::encode(&Told::of(&self.outcome)) })
    }
}

/// Takes a turn with the load that `plan` makes for these endpoints.
pub fn take(
    lab: &Lab,
    program: &Program,
    filled: &Home,
    flags: &[String],
    plan: impl FnOnce(&[SocketAddr]) -> Result<Plan, Failure>,
) -> Result<Turn, Failure> {
    let home = lab.copy_of(filled)?;
    let mut cluster = Cluster::start(program, &home, &lab.cores_of(&home), flags)?;
    let start = cluster.wait_until_ready()?;
    let watched = cluster.members().iter().map(Server::watched).collect();
    // Members and load share all cores.
    let core = home.is_alone().then_some(lab.load_core);
    let outcome = load::run(&Plan { watched, core, ..plan(&cluster.endpoints())? })?;
    outcome.expect_no_errors()?;
    let db_bytes = cluster.db_bytes()?;
    cluster.stop()?;
    Ok(Turn { outcome, start, db_bytes })
}
