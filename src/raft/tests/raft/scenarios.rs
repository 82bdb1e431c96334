//! The scenarios of `testdata/`: commands with what came of them. `UPDATE_EXPECT=1` writes what comes of them now; read the difference.

use std::{fmt::Write, fs, path::Path};

use bytes::Bytes;
use plinth_base::{LogIndex, MemberId, Term};
use plinth_raft::{Change, Configuration, Entry, Input, Lane, Options, Position, Stall};

use crate::{cluster::Cluster, figure};

#[test]
fn scenarios_are_played_as_they_are_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut paths: Vec<_> = fs::read_dir(&dir).expect("scenarios").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are scenarios");
    let mut differing = Vec::new();
    for path in paths {
        let written = fs::read_to_string(&path).expect("text");
        let played = play(&written);
        if played != written {
            if updates {
                fs::write(&path, &played).expect("it can be written");
            } else {
                differing.push(format!("{}:\n{}", path.display(), first_difference(&written, &played)));
            }
        }
    }
    assert!(differing.is_empty(), "UPDATE_EXPECT=1 writes what comes now\n{}", differing.join("\n"));
}

fn first_difference(written: &str, played: &str) -> String {
    let (mut written, mut played) = (written.lines(), played.lines());
    for number in 1.. {
        match (written.next(), played.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                return format!("line {number}\n  written: {}\n  now:     {}", a.unwrap_or("-"), b.unwrap_or("-"));
            }
        }
    }
    String::new()
}

fn play(text: &str) -> String {
    let mut scenario = Scenario { cluster: None };
    let mut out = String::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").expect("memory");
            for told in scenario.run(command) {
                writeln!(out, "{told}").expect("memory");
            }
        }
    }
    out
}

struct Scenario {
    cluster: Option<Cluster>,
}

fn options(id: MemberId, seed: u64) -> Options {
    let mut options = Options::new(id, seed);
    // A few entries of a few bytes are enough to fill a window, or to be no longer in memory.
    options.append_bytes_max = 200;
    options.window_bytes = 400;
    options.cache_bytes_max = 300;
    options
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

/// `1->2`.
fn pair(word: &str) -> (u64, u64) {
    let (from, to) = word.split_once("->").unwrap_or_else(|| panic!("{word:?} is no pair of members"));
    (number(from), number(to))
}

impl Scenario {
    fn run(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "group" {
            let initial = Configuration::of_voters(words[1..].iter().map(|word| MemberId(number(word))));
            let mut cluster = Cluster::new(initial, options);
            words[1..].iter().for_each(|word| cluster.add(number(word)));
            self.cluster = Some(cluster);
            return Vec::new();
        }
        let cluster = self.cluster.as_mut().expect("a scenario begins with `group`");
        // With all messages, or only with what they bring about.
        let is_verbose = words.last() == Some(&"verbosely");
        cluster.tells_messages = is_verbose;
        let words = &words[..words.len() - usize::from(is_verbose)];
        run(cluster, words[0], &words[1..]);
        std::mem::take(&mut cluster.told)
    }
}

fn run(cluster: &mut Cluster, command: &str, words: &[&str]) {
    match command {
        "member" => cluster.add(number(words[0])),
        // `log 1: 1 1 2` has three entries; `log 1 term 3: 1 1 2` at a member that has seen term 3.
        "log" => set_log(cluster, words),
        "doubt" => cluster.members.get_mut(&number(words[0])).expect("a member").disk.hard_state.is_doubtful = true,
        "start" if words.is_empty() => {
            let all: Vec<u64> = cluster.members.keys().copied().collect();
            all.into_iter().for_each(|id| cluster.start(id));
        }
        "start" => words.iter().for_each(|word| cluster.start(number(word))),
        "crash" => words.iter().for_each(|word| cluster.crash(number(word), 0)),
        "campaign" => cluster.step(number(words[0]), Input::Campaign),
        "flush" => words.iter().for_each(|word| cluster.flush(number(word))),
        "settle" => cluster.settle(),
        "deliver" if words.is_empty() => {
            cluster.deliver_all();
        }
        "deliver" => deliver(cluster, words),
        "lose" => words.iter().for_each(|word| lose(cluster, pair(word))),
        "cut" => words.iter().for_each(|word| {
            cluster.cuts.insert(pair(word));
            lose(cluster, pair(word));
        }),
        "heal" => cluster.cuts.clear(),
        "advance" => cluster.advance(number(words[0].trim_end_matches("ms")) * 1_000_000),
        // In small steps, with everything delivered.
        "pass" => (0..number(words[0].trim_end_matches("ms")) / 10).for_each(|_| {
            cluster.advance(10_000_000);
            cluster.settle();
        }),
        "propose" => {
            cluster.propose(number(words[0]), words[1]);
        }
        "fill" => (0..number(words[1])).for_each(|_| {
            cluster.propose(number(words[0]), "0123456789012345678901234567890123456789");
        }),
        "change" => change(cluster, number(words[0]), &words[1..]),
        "read" => {
            cluster.read(number(words[0]));
        }
        "transfer" => {
            cluster.transfer(number(words[0]), number(words[1]));
        }
        // The disk takes what is written, and nothing becomes durable.
        "stick" => cluster.stuck.extend(words.iter().map(|word| number(word))),
        "unstick" => cluster.stuck.clear(),
        "slow" => cluster.step(number(words[0]), Input::Stalled(Stall::Soft)),
        "stall" => cluster.step(number(words[0]), Input::Stalled(Stall::Hard)),
        "unstall" => cluster.step(number(words[0]), Input::Stalled(Stall::None)),
        "unreachable" => {
            let (at, peer) = pair(words[0]);
            cluster.step(at, Input::Unreachable { peer: MemberId(peer) });
        }
        "compact" => cluster.compact(number(words[0]), LogIndex(number(words[1]))),
        "snapshot" => {
            let (from, to) = pair(words[0]);
            cluster.send_snapshot(from, to);
        }
        "status" => {
            let running: Vec<u64> = cluster.running().collect();
            for id in running {
                let line = figure::status(cluster.raft(id));
                cluster.told.push(line);
            }
        }
        "logs" => tell_logs(cluster),
        _ => panic!("{command} is no command"),
    }
}

fn set_log(cluster: &mut Cluster, words: &[&str]) {
    let colon = words.iter().position(|word| word.ends_with(':')).expect("`log 1: terms`");
    let terms: Vec<u64> = words[colon + 1..].iter().map(|word| number(word)).collect();
    let id = number(words[0].trim_end_matches(':'));
    let disk = &mut cluster.members.get_mut(&id).expect("a member").disk;
    let entry = |(at, term): (usize, &u64)| Entry {
        index: LogIndex(at as u64 + 1),
        term: Term(*term),
        is_change: false,
        payload: Bytes::from(format!("of term {term}")),
    };
    disk.entries = terms.iter().enumerate().map(entry).collect();
    let newest = terms.last().copied().unwrap_or_default();
    disk.hard_state.term = Term(if colon > 0 { number(words[2].trim_end_matches(':')) } else { newest });
}

/// `deliver 1->2`, `deliver 1->2 pulse`, `deliver 1->2 log 2`.
fn deliver(cluster: &mut Cluster, words: &[&str]) {
    let (from, to) = pair(words[0]);
    let lanes = match words.get(1) {
        Some(&"pulse") => vec![Lane::Pulse],
        Some(&"log") => vec![Lane::Log],
        _ => vec![Lane::Pulse, Lane::Log],
    };
    for lane in lanes {
        let there = cluster.network.get(&(from, to, lane)).map_or(0, std::collections::VecDeque::len);
        let count = words.get(2).map_or(there, |word| usize::try_from(number(word)).expect("small"));
        for _ in 0..count {
            cluster.deliver((from, to, lane));
        }
    }
}

fn lose(cluster: &mut Cluster, (from, to): (u64, u64)) {
    for lane in [Lane::Pulse, Lane::Log] {
        cluster.network.remove(&(from, to, lane));
    }
}

/// `change 1 +4 learner+5 promote5 -2`.
fn change(cluster: &mut Cluster, id: u64, words: &[&str]) {
    let parse = |word: &&str| {
        if let Some(of) = word.strip_prefix("learner+") {
            Change::AddLearner(MemberId(number(of)))
        } else if let Some(of) = word.strip_prefix("promote") {
            Change::Promote(MemberId(number(of)))
        } else if let Some(of) = word.strip_prefix('+') {
            Change::AddVoter(MemberId(number(of)))
        } else {
            Change::Remove(MemberId(number(word.trim_start_matches('-'))))
        }
    };
    let changes: Vec<Change> = words.iter().map(parse).collect();
    match cluster.raft(id).configuration().changed(&changes) {
        Ok(next) => {
            cluster.propose_configuration(id, &next);
        }
        Err(error) => cluster.told.push(format!("{id}: refused, {error}")),
    }
}

fn tell_logs(cluster: &mut Cluster) {
    let line = |(id, member): (&u64, &crate::cluster::Member)| {
        let terms: Vec<String> = member.disk.entries.iter().map(|entry| entry.term.0.to_string()).collect();
        let Position { index, .. } = member.disk.start;
        let start = if index.0 > 0 { format!(" (behind {})", index.0) } else { String::new() };
        format!("{id}: {}{start}", terms.join(" "))
    };
    let lines: Vec<String> = cluster.members.iter().map(line).collect();
    cluster.told.extend(lines);
}
