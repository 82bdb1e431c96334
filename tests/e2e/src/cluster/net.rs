//! Machines of a cluster: one network namespace for each member, all plugged into a switch, which is a namespace too.
//!
//! Nothing of it is in the network of the machine itself: a member is talked to from inside its own namespace, over its loopback, so clients reach
//! it however the network between members is cut. A namespace takes its interfaces along when it goes, and the names hold the process id, so
//! that the next run removes what a killed one has left.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
};

use rustix::{
    process::geteuid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::outcome::{Ended, Outcome};

/// What `ip netns` keeps namespaces in.
const NAMES: &str = "/run/netns";
/// What the names of ours begin with, before the process id.
const PREFIX: &str = "plinth-e2e-";
/// Bridges in the switch: who is on different ones doesn't hear each other.
const SIDES: [&str; 3] = ["side0", "side1", "side2"];

static NETWORKS: AtomicUsize = AtomicUsize::new(0);

/// Members' namespaces and the switch between them; all of it goes when this is dropped.
pub(crate) struct Network {
    /// Counts the networks of this process.
    number: usize,
    name: String,
    members: usize,
}

impl Network {
    /// A switch with nobody plugged in.
    pub(crate) fn new() -> Result<Self, Ended> {
        if !geteuid().is_root() {
            return Err(Ended::Skipped("network namespaces need root".to_owned()));
        }
        remove_stale();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let network = Self { number, name: format!("{PREFIX}{}-{number}", process::id()), members: 0 };
        let switch = network.switch().name;
        // Containers may be root and still not be allowed to.
        ip(&["netns", "add", &switch]).map_err(|why| Ended::Skipped(format!("no network namespaces here: {why}")))?;
        for side in SIDES {
            ip(&["-n", &switch, "link", "add", side, "type", "bridge"])
                .map_err(|why| Ended::Skipped(format!("no bridges here: {why}")))?;
            ip(&["-n", &switch, "link", "set", side, "up"])?;
        }
        Ok(network)
    }

    /// No other network of this process has this number.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Plugs in one more member, and gives its number.
    pub(crate) fn plug_in(&mut self) -> Result<usize, Ended> {
        let member = self.members;
        self.members += 1;
        let (switch, own) = (self.switch().name, self.of_member(member).name);
        let (port, address) = (port(member), format!("{}/24", address(member)));
        ip(&["netns", "add", &own])?;
        ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "peers", "netns", &own])?;
        ip(&["-n", &switch, "link", "set", &port, "master", SIDES[0], "up"])?;
        ip(&["-n", &own, "addr", "add", &address, "dev", "peers"])?;
        ip(&["-n", &own, "link", "set", "peers", "up"])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        Ok(member)
    }

    /// Gives the switch itself an address, which all members reach.
    pub(crate) fn add_address(&self, address: Ipv4Addr) -> Outcome {
        Ok(ip(&["-n", &self.switch().name, "addr", "add", &format!("{address}/24"), "dev", SIDES[0]])?)
    }

    /// Cuts the network: members hear those on their own side only. Who is on no side stays with the first.
    pub(crate) fn part(&self, sides: &[&[usize]]) -> Outcome {
        for (side, members) in SIDES.iter().zip(sides) {
            for member in *members {
                ip(&["-n", &self.switch().name, "link", "set", &port(*member), "master", side])?;
            }
        }
        Ok(())
    }

    /// Everybody hears everybody again.
    pub(crate) fn heal(&self) -> Outcome {
        self.part(&[&(0..self.members).collect::<Vec<_>>()])
    }

    /// Where this member runs.
    pub(crate) fn of_member(&self, member: usize) -> Namespace {
        Namespace { name: format!("{}-m{member}", self.name) }
    }

    /// What stands between the members.
    pub(crate) fn switch(&self) -> Namespace {
        Namespace { name: format!("{}-switch", self.name) }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let all = (0..self.members).map(|member| self.of_member(member)).chain([self.switch()]);
        for namespace in all.filter(|namespace| namespace.path().exists()) {
            if let Err(why) = ip(&["netns", "del", &namespace.name]) {
                eprintln!("{} is left: {why}", namespace.name);
            }
        }
    }
}

/// Where a member is in its cluster's network.
pub(crate) fn address(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 1 + u8::try_from(member).expect("a cluster is small"))
}

fn port(member: usize) -> String {
    format!("port{member}")
}

/// A network namespace with a name.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Takes this thread into it: sockets and processes that it makes until the guard is dropped are there.
    pub(crate) fn enter(&self) -> std::io::Result<Inside> {
        let before = File::open("/proc/thread-self/ns/net")?;
        move_into_link_name_space(File::open(self.path())?.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Inside { before })
    }
}

/// The thread is in a namespace; dropped, it goes back.
pub(crate) struct Inside {
    before: File,
}

impl Drop for Inside {
    fn drop(&mut self) {
        move_into_link_name_space(self.before.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("whoever may leave a namespace may come back");
    }
}

/// Runs `ip`.
fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Removes namespaces of runs that are over.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(NAMES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            ip(&["netns", "del", &name]).ok();
        }
    }
}
