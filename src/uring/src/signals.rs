//! SIGTERM and SIGINT, caught by a thread of their own and handed to one task.
//!
//! The second signal of either kind is not waited for by anybody: it ends the process at once, for people in a hurry.

use std::{io, thread::JoinHandle};

use plinth_base::mailbox::{self, Receiver};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::{Handle, Signals},
    low_level::emulate_default_handler,
};

/// Why the process was asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopSignal {
    /// SIGTERM, from a supervisor.
    Terminate,
    /// SIGINT, from a person.
    Interrupt,
}

impl StopSignal {
    /// The exit code that shells show for a process ended by the signal: 143 or 130.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        let number = match self {
            Self::Terminate => SIGTERM,
            Self::Interrupt => SIGINT,
        };
        u8::try_from(128 + number).expect("signal numbers are below 32")
    }

    fn from_number(number: i32) -> Option<Self> {
        match number {
            SIGTERM => Some(Self::Terminate),
            SIGINT => Some(Self::Interrupt),
            _ => None,
        }
    }
}

/// The thread that catches signals; it stops when this is dropped.
pub struct SignalThread {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Catches from now on. The first signal goes to the receiver, which any executor may await; the second ends the process.
    pub fn start() -> io::Result<(Self, Receiver<StopSignal>)> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let handle = signals.handle();
        let (sender, receiver) = mailbox::mailbox(1);
        let thread = std::thread::Builder::new().name("plinth-signal".to_owned()).spawn(move || {
            let mut caught = false;
            for number in signals.forever() {
                let Some(signal) = StopSignal::from_number(number) else { continue };
                if caught || sender.send(signal).is_err() {
                    let _ = emulate_default_handler(number);
                }
                caught = true;
            }
        })?;
        Ok((Self { handle, thread: Some(thread) }, receiver))
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
