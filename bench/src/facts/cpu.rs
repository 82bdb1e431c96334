//! The processors: what they are, and how deep they sleep. Whoever waits for a flush pays for waking up.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};

use super::{entries, name_of, read, read_bool, read_number};

/// All of them together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cpu {
    /// As the processor calls itself.
    pub model: Option<String>,
    /// Whether a hypervisor is below.
    pub is_virtual: bool,
    /// How many this process may use.
    pub cores: usize,
    /// What chooses the clock rate; several if cores differ, none if nobody does.
    #[serde(default)]
    pub governors: Vec<String>,
    /// What the first core may do when it has nothing to do.
    #[serde(default)]
    pub idle_states: Vec<IdleState>,
    /// Nodes with memory of their own.
    pub numa_nodes: Option<usize>,
}

/// A way for a core to sleep.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdleState {
    /// As the driver calls it, such as `C6`.
    pub name: String,
    /// How long waking up takes.
    pub latency_us: u64,
    /// Whether it is switched off.
    pub is_disabled: bool,
}

impl Cpu {
    /// Looks at /proc/cpuinfo and /sys/devices/system.
    pub fn look(root: &Path) -> Self {
        let cpuinfo = read(&root.join("proc/cpuinfo")).unwrap_or_default();
        let cpus = root.join("sys/devices/system/cpu");
        let is_cpu = |name: &str| name.strip_prefix("cpu").is_some_and(is_number);
        let governors: BTreeSet<String> = entries(&cpus)
            .iter()
            .filter(|path| is_cpu(&name_of(path)))
            .filter_map(|path| read(&path.join("cpufreq/scaling_governor")))
            .collect();
        let nodes = entries(&root.join("sys/devices/system/node"));
        let nodes = nodes.iter().filter(|path| name_of(path).strip_prefix("node").is_some_and(is_number)).count();
        Self {
            model: field(&cpuinfo, "model name"),
            is_virtual: field(&cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            governors: governors.into_iter().collect(),
            idle_states: entries(&cpus.join("cpu0/cpuidle")).iter().filter_map(|path| idle_state(path)).collect(),
            numa_nodes: (nodes > 0).then_some(nodes),
        }
    }

    /// How long waking up takes from the deepest sleep that is allowed.
    #[must_use]
    pub fn wake_us_max(&self) -> Option<&IdleState> {
        self.idle_states.iter().filter(|state| !state.is_disabled).max_by_key(|state| state.latency_us)
    }
}

fn idle_state(dir: &Path) -> Option<IdleState> {
    Some(IdleState {
        name: read(&dir.join("name"))?,
        latency_us: read_number(&dir.join("latency"))?,
        is_disabled: read_bool(&dir.join("disable")).unwrap_or(false),
    })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The first value with a name in /proc/cpuinfo.
fn field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
