//! Flushes that are stuck or slow: syncs of files and directories, and durable writes. Everything else goes on as ever, as on a device whose cache is fine and
//! whose medium isn't.

use std::path::Path;

use plinth_base::Prng;

use crate::options::Latency;

/// What is the matter with flushes of some files.
#[derive(Debug)]
struct Trouble {
    path_part: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// None comes back before then. `since_ns`: when the first durable write began that has to wait.
    Stuck { until_ns: u64, since_ns: Option<u64> },
    /// Each takes so much longer.
    Slow(Latency),
}

/// All that is the matter.
#[derive(Debug, Default)]
pub(crate) struct Flushes(Vec<Trouble>);

impl Flushes {
    pub(crate) fn stick(&mut self, path_part: &str, until_ns: u64) {
        self.0.push(Trouble { path_part: path_part.to_owned(), kind: Kind::Stuck { until_ns, since_ns: None } });
    }

    pub(crate) fn slow(&mut self, path_part: &str, latency: Latency) {
        self.0.push(Trouble { path_part: path_part.to_owned(), kind: Kind::Slow(latency) });
    }

    /// Those that begin from now on are as ever.
    pub(crate) fn free(&mut self) {
        self.0.clear();
    }

    /// When the first durable write began that was stuck.
    pub(crate) fn stuck_since_ns(&self) -> Option<u64> {
        let since = |trouble: &Trouble| match trouble.kind {
            Kind::Stuck { since_ns, .. } => since_ns,
            Kind::Slow(_) => None,
        };
        self.0.iter().filter_map(since).min()
    }

    /// How long a flush takes that begins now, as a durable write or after one, and would take `delay_ns`; and what is the matter with it, if something is.
    pub(crate) fn delay(
        &mut self,
        now_ns: u64,
        path: &Path,
        is_write: bool,
        delay_ns: u64,
        prng: &mut Prng,
    ) -> (u64, Option<&'static str>) {
        let (mut delay_ns, mut what) = (delay_ns, None);
        for Trouble { path_part, kind } in &mut self.0 {
            if !path.to_string_lossy().contains(path_part.as_str()) {
                continue;
            }
            match kind {
                Kind::Stuck { until_ns, since_ns } if *until_ns > now_ns => {
                    if is_write {
                        since_ns.get_or_insert(now_ns);
                    }
                    delay_ns = delay_ns.max(*until_ns - now_ns);
                    what = Some("flush stuck");
                }
                Kind::Stuck { .. } => {}
                Kind::Slow(latency) => {
                    delay_ns += latency.draw_ns(prng);
                    what = what.or(Some("flush slow"));
                }
            }
        }
        (delay_ns, what)
    }
}
