//! What is said when the node is ready. Supervisors wait for `ready to serve client requests` in any form of the log.

use std::{
    io::{self, Write},
    path::Path,
};

use plinth_base::log_info;

use crate::{
    log::Form,
    version::{ETCD_VERSION, PLINTH_VERSION},
};

/// What there is to say.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// The addresses that serve clients: `127.0.0.1:2379`, or paths of sockets.
    pub addresses: &'a [String],
    /// How clients reach the member, for the command to try: `http://localhost:2379`.
    pub client_url: &'a str,
    /// Where the data is.
    pub data_dir: &'a Path,
}

/// Says it: a few lines for people where the log is in plain form, else two log lines per listener, as etcd does.
pub fn announce(form: Form, ready: &Ready<'_>) {
    if form == Form::Plain {
        // One write, so that no other line falls in between. A terminal that is gone doesn't stop the node.
        let _ignored = io::stderr().write_all(plain(ready).as_bytes());
        return;
    }
    for address in ready.addresses {
        log_info!("ready to serve client requests");
        log_info!(
            "serving client traffic insecurely; this is strongly discouraged!",
            "traffic" => "grpc+http",
            "address" => address,
        );
    }
}

fn plain(ready: &Ready<'_>) -> String {
    let mut out = format!("plinth {PLINTH_VERSION} (as etcd {ETCD_VERSION}) is ready to serve client requests\n");
    for address in ready.addresses {
        out.push_str(&format!("  listens  {address}  (serving client traffic insecurely: without TLS)\n"));
    }
    out.push_str(&format!(
        "  data     {}\n  try      etcdctl --endpoints={} put greeting hello\n",
        ready.data_dir.display(),
        ready.client_url
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_where_it_listens_where_the_data_is_and_what_to_try() {
        let addresses = ["127.0.0.1:2379".to_owned()];
        let ready = Ready {
            addresses: &addresses,
            client_url: "http://localhost:2379",
            data_dir: Path::new("/d/default.etcd"),
        };
        let text = plain(&ready);
        for part in [
            "ready to serve client requests",
            "serving client traffic",
            "127.0.0.1:2379",
            "/d/default.etcd",
            "etcdctl --endpoints=http://localhost:2379 put",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.lines().count() <= 5, "a few lines");
    }
}
