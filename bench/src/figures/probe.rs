//! What `probe` says of both servers when nobody else uses them.

use super::{Figures, Part};
use crate::{failure::Failure, probe, results};

pub(super) fn run(figures: &mut Figures) -> Result<Part, Failure> {
    let lab = &figures.lab;
    let (mut texts, mut findings) = (Vec::new(), Vec::new());
    for program in [&lab.plinth, &lab.etcd()?] {
        let mut server = program.start(&lab.path("probe")?, &[lab.server_core])?;
        server.wait_until_ready()?;
        let found = probe::look(&server.endpoint().to_string(), lab.method.measured)?;
        server.stop()?;
        texts.push(probe::text(&found));
        findings.push(found);
    }
    Ok(Part { text: texts.join("\n"), json: results::encode(&findings), aims: Vec::new() })
}
