//! A million wakes of executors that are about to sleep; fails on a gap above 15 ms. Needs a machine that is otherwise quiet.
//!
//! `cargo run --release -p plinth-uring --example wake_hammer [WAKES]`

#[path = "../tests/support/hammer.rs"]
mod hammer;

use std::{process::ExitCode, time::Duration};

const WAKES: u64 = 1_000_000;
const GAP_MAX: Duration = Duration::from_millis(15);

fn main() -> ExitCode {
    let wakes = std::env::args().nth(1).map_or(Ok(WAKES), |text| text.parse());
    let Ok(wakes) = wakes else {
        eprintln!("usage: wake_hammer [WAKES]");
        return ExitCode::FAILURE;
    };
    let runtime = plinth_uring::Runtime::chosen().unwrap_or_else(|error| panic!("{error}"));
    let mailboxes = hammer::hammer_mailboxes(runtime, wakes / 2);
    println!("mailboxes: {mailboxes}");
    let socket = hammer::hammer_socket(runtime, wakes / 2);
    println!("socket: {socket}");
    let worst = mailboxes.worst().max(socket.worst());
    println!("{} wakes, worst gap {worst:?}, allowed {GAP_MAX:?}", mailboxes.wakes() + socket.wakes());
    if worst > GAP_MAX { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
