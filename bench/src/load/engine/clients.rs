//! Clients: each has one request under way at most, on a connection that it shares with others.

use std::time::Instant;

use super::{
    super::{
        Pace,
        client::{PREFIX_BYTES, set_length},
        pace::Schedule,
        work::Ask,
    },
    Engine,
};
use crate::failure::Failure;

/// One client.
#[derive(Debug)]
pub struct Client {
    connection: usize,
    /// The stream that it keeps, if its requests go on one.
    stream: Option<u32>,
    /// What it asked, and when that began or was due; `None` of a client that is free.
    asked: Option<(Ask, Instant)>,
    answer: Vec<u8>,
}

impl Client {
    /// A message of its answer.
    pub fn take(&mut self, message: &[u8]) {
        self.answer.clear();
        self.answer.extend_from_slice(message);
    }

    /// Its answer, until it is given back.
    pub fn answer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answer)
    }

    /// The memory of an answer that was looked at.
    pub fn give_back(&mut self, mut answer: Vec<u8>) {
        answer.clear();
        self.answer = answer;
    }

    /// What is answered now.
    pub fn asked(&mut self) -> (Ask, Instant) {
        self.asked.take().expect("only what was asked is answered")
    }
}

impl Engine<'_> {
    /// Makes all clients. In a closed loop each asks at once.
    pub fn start(&mut self) -> Result<(), Failure> {
        let (connections, streams) = (self.plan.clients.connections, self.plan.clients.streams);
        // Stream by stream over all connections, so that all of them begin at once.
        for number in 0..connections * streams {
            let (connection, token) = (number % connections, u32::try_from(number).expect("clients are numbered"));
            let stream = match self.work.stream() {
                None => None,
                Some(path) => Some(self.open(connection, token, path, true)?),
            };
            self.clients.push(Client { connection, stream, asked: None, answer: Vec::new() });
            self.free.push_back(token);
        }
        let now = Instant::now();
        match self.plan.pace {
            Pace::Open { rate } => self.schedule = Some(Schedule::new(now, rate)),
            Pace::Closed => {
                while let Some(token) = self.free.pop_front().filter(|_| self.left > 0) {
                    self.ask(token, now)?;
                }
            }
        }
        (0..connections).try_for_each(|number| self.flush(number))
    }

    /// No request begins any more.
    pub fn stop_asking(&mut self) {
        (self.left, self.schedule) = (0, None);
        self.backlog.clear();
    }

    /// Requests under way, and when each began.
    pub fn under_way(&self) -> impl Iterator<Item = &(Ask, Instant)> {
        self.clients.iter().filter_map(|client| client.asked.as_ref())
    }

    /// A client's request begins, or was due, at `began`.
    fn ask(&mut self, token: u32, began: Instant) -> Result<(), Failure> {
        self.left -= 1;
        self.body.clear();
        self.body.resize(PREFIX_BYTES, 0);
        let ask = self.work.ask(began, &mut self.body);
        set_length(&mut self.body);
        let Client { connection, stream, .. } = self.clients[token as usize];
        self.clients[token as usize].asked = Some((ask, began));
        match stream {
            Some(stream) => self.sockets.connection(connection).send(stream, &self.body, false),
            None => {
                let stream = self.open(connection, token, ask.path, ask.wants_answer)?;
                self.sockets.connection(connection).send(stream, &self.body, true);
            }
        }
        Ok(())
    }

    /// A client is free: what is next?
    pub fn next(&mut self, token: u32, now: Instant) -> Result<(), Failure> {
        let due = match self.plan.pace {
            Pace::Closed => Some(now),
            Pace::Open { .. } => self.backlog.pop_front(),
        };
        match due.filter(|_| self.left > 0) {
            Some(began) => self.ask(token, began),
            None => {
                self.free.push_back(token);
                Ok(())
            }
        }
    }

    /// Begins what is due.
    pub fn begin_due(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        while let Some(due) = self.schedule.as_mut().and_then(|schedule| schedule.take(now)) {
            match self.free.pop_front() {
                Some(token) => {
                    self.ask(token, due)?;
                    self.flush(self.clients[token as usize].connection)?;
                }
                None => {
                    self.delayed += 1;
                    self.backlog.push_back(due);
                }
            }
        }
        Ok(())
    }
}
