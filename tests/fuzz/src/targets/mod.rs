//! The targets.

mod commands;
mod conn;
mod frames;
mod log;
mod marker;
mod tree;

use crate::target::Target;

/// A target's name, the iterations of a smoke test of a few seconds at most, and how to make it.
pub type Entry = (&'static str, u64, fn() -> Box<dyn Target>);

/// All of them.
pub const TARGETS: &[Entry] = &[
    ("frames", 20_000, || Box::new(frames::Frames)),
    ("conn", 1500, || Box::new(conn::Conn::new())),
    ("log", 1500, || Box::new(log::Log::new())),
    ("tree", 250, || Box::new(tree::Tree::new())),
    ("commands", 20_000, || Box::new(commands::Commands)),
    ("marker", 500, || Box::new(marker::MarkerFile::new())),
];
