//! A fuzzer of every decoder of bytes that plinth didn't just write itself: those of clients, of files, of the log.
//!
//! Deterministic and on the stable toolchain: inputs are sound ones, mutated by a seeded generator, with their checksums made right
//! again most of the time, so that what lies behind a checksum is reached. What a decoder accepts becomes a sound input in turn.
//! A seed and a target determine all inputs.
//!
//! `mutate` makes inputs, `targets` takes them, `runner` brings the two together and keeps the input that ends it.

pub mod mutate;
pub mod runner;
pub mod target;
pub mod targets;
