//! `plinth-bench probe`: the health of a running endpoint in ten seconds, and which part of a put takes longest.
//!
//! | module | job |
//! |---|---|
//! | `reach` | connecting, and telling what is there if it is no etcd |
//! | `calls` | one call at a time, of each kind in turn |
//! | `findings` | what was seen, as a results file keeps it |
//! | `diagnosis` | what that means: a pure function |
//! | `told` | both as text |

mod calls;
mod diagnosis;
mod findings;
mod reach;
mod told;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tokio::{runtime::Builder, time::timeout};

pub use self::told::{text, text_of};
use self::{
    calls::Caller,
    diagnosis::diagnose,
    findings::{Findings, Metered, Server},
};
use crate::{
    args::Args,
    facts::Facts,
    failure::Failure,
    load::seconds,
    metrics::Metrics,
    results::{self, Document, ProgramFacts},
};

/// A server that is busy may take a while for its metrics; a silent one gets no more than this.
const METRICS_MAX: Duration = Duration::from_secs(3);
const SECONDS_DEFAULT: f64 = 8.0;
const SECONDS_MAX: f64 = 3600.0;

const USAGE: &str = "\
usage: plinth-bench probe --endpoint HOST:PORT [options]
  asks a running etcd or plinth, one call at a time, and says what a put's time goes into. It writes one or two keys of its own,
  below plinth-bench/probe/, and removes them; if it is killed, a lease does so within a minute.
  --seconds S         for all calls together; default 8
  --json FILE         where the results go; `show` prints them again";

/// `plinth-bench probe`.
pub fn command(mut args: Args) -> Result<(), Failure> {
    if args.switch("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let json: Option<PathBuf> = args.optional("--json")?;
    let endpoint = args.required::<String>("--endpoint")?;
    let total = args.value("--seconds", SECONDS_DEFAULT)?;
    args.finish()?;
    if !(total > 0.0 && total <= SECONDS_MAX) {
        return Err(Failure::Usage(format!("--seconds is more than 0 and at most {SECONDS_MAX}, not {total}")));
    }
    json.as_deref().map_or(Ok(()), results::expect_writable)?;
    let findings = look(&endpoint, seconds("--seconds", total)?)?;
    let document = document(&findings, total);
    print!("{}", text_of(&document)?);
    json.map_or(Ok(()), |path| results::write(&path, &document))
}

/// Everything that can be seen of an endpoint in about `total`.
pub fn look(endpoint: &str, total: Duration) -> Result<Findings, Failure> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| Failure::Trouble(format!("starting the probe: {error}")))?;
    runtime.block_on(probe(endpoint, total))
}

fn document(findings: &Findings, total: f64) -> Document {
    let facts = Facts::look(Path::new("."));
    let machine = results::Machine { text: facts.to_text(), facts: facts.to_json() };
    let Server { name, version, endpoint, .. } = &findings.server;
    let program = ProgramFacts { name: name.clone(), version: version.clone(), path: endpoint.clone() };
    // The diagnosis is for other programs: the text makes it again.
    let results = json!({ "findings": findings, "diagnosis": diagnose(findings) });
    Document::new("probe", machine, vec![program], json!({ "seconds": total }), results)
}

async fn probe(endpoint: &str, total: Duration) -> Result<Findings, Failure> {
    let address = reach::resolve(endpoint)?;
    let (client, status) = reach::connect(address).await?;
    let before = metrics(address).await;
    let mut caller = Caller::new(client, address).await?;
    let measured = caller.measure(status.leader != 0, total).await;
    // Whatever went wrong: nothing stays.
    let removed = caller.clean_up().await;
    let calls = measured?;
    removed?;
    let after = metrics(address).await;
    let status = caller.status().await?;
    let metered = before.zip(after).map(|(before, after)| Metered::between(&before, &after));
    let server =
        Server::of(address, &status, caller.members(), metered.as_ref().is_some_and(|metered| metered.is_plinth));
    Ok(Findings { server, calls, metered })
}

/// Its metrics, if it tells them here.
async fn metrics(address: std::net::SocketAddr) -> Option<Metrics> {
    let answer = timeout(METRICS_MAX, plinth_client::http_request(address, "GET", "/metrics", b"")).await;
    let answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
    Some(Metrics(answer.text())).filter(|metrics| metrics.has("etcd_server_has_leader"))
}

#[cfg(test)]
mod tests;
