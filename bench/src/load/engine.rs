//! The loop of a load: one thread waits for all connections, and for the time.
//!
//! What has come on a connection is read at once; every call that is over makes room for the next one of its client, and all that follows is
//! sent together. In an open loop requests begin when they are due, whether clients are free or not.

mod clients;
mod measure;

use std::{
    collections::VecDeque,
    io::Write,
    rc::Rc,
    time::{Duration, Instant},
};

use plinth_client::Code;
use plinth_rpc::etcdserverpb::WatchRequest;

use self::clients::Client;
use super::{
    Pace, Plan,
    client::framed,
    pace::Schedule,
    placement,
    tally::Tally,
    watch::{Board, EventTimes, of_board},
    wire::{Events, Sockets, Status, What},
    work::{self, Work, path},
};
use crate::failure::Failure;

/// Connections of the watchers.
const WATCH_CONNECTIONS: usize = 8;
/// A server that answers nothing for so long is stuck.
pub const STALL_MAX: Duration = Duration::from_secs(30);
const LIVE_INTERVAL: Duration = Duration::from_secs(1);

/// A stream of watches.
pub trait LongCall {
    /// What it asks first.
    fn first(&self) -> Vec<WatchRequest>;

    /// A message came; gives what to say to it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn message(&mut self, message: &[u8], now: Instant) -> Result<Option<WatchRequest>, String>;

    /// Whether the server has taken it up.
    fn is_ready(&self) -> bool;
}

/// One that is under way.
struct Long {
    connection: usize,
    stream: u32,
    call: Box<dyn LongCall>,
}

/// A load that is under way.
pub struct Engine<'a> {
    plan: &'a Plan,
    sockets: Sockets,
    clients: Vec<Client>,
    long: Vec<Long>,
    work: Box<dyn Work>,
    /// What came of the calls.
    pub tally: Tally,
    /// Of an open loop.
    schedule: Option<Schedule>,
    /// Clients with nothing to do.
    free: VecDeque<u32>,
    /// Requests that are due, and that no client is free for.
    backlog: VecDeque<Instant>,
    /// How many were, while measuring.
    delayed: u64,
    /// Requests that may still begin.
    left: u64,
    board: Option<Rc<Board>>,
    times: Rc<EventTimes>,
    events: Events,
    readable: Vec<usize>,
    body: Vec<u8>,
    live: Live,
}

/// What the live line was last told.
struct Live {
    at: Instant,
    answers: u64,
}

impl<'a> Engine<'a> {
    /// Connects, and opens the streams that watch. No request has begun.
    pub fn connect(plan: &'a Plan) -> Result<Self, Failure> {
        let now = Instant::now();
        let times = Rc::new(EventTimes::new(now));
        let board = plan.watchers.map(|watchers| Rc::new(Board::new(plan.shape, watchers, Rc::clone(&times))));
        let (work, followers) = work::of_plan(plan, &times)?;
        let sockets = Sockets::new().map_err(|error| Failure::Trouble(format!("starting the load: {error}")))?;
        let mut engine = Self {
            plan,
            sockets,
            clients: Vec::new(),
            long: Vec::new(),
            tally: Tally::new(&work.kinds(), matches!(plan.pace, Pace::Open { .. })),
            work,
            schedule: None,
            free: VecDeque::new(),
            backlog: VecDeque::new(),
            delayed: 0,
            left: plan.requests_max.unwrap_or(u64::MAX),
            board,
            times,
            events: Events::default(),
            readable: Vec::new(),
            body: Vec::new(),
            live: Live { at: now + LIVE_INTERVAL, answers: 0 },
        };
        engine.connect_all()?;
        let streams = engine.board.iter().flat_map(of_board).map(|stream| Box::new(stream) as Box<dyn LongCall>);
        let long: Vec<_> = streams.chain(followers).collect();
        engine.watch(long)?;
        Ok(engine)
    }

    fn connect_all(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        for number in 0..plan.clients.connections {
            let endpoint = plan.endpoints[number % plan.endpoints.len()];
            match plan.executor {
                None => self.sockets.connect(endpoint).map_err(Failure::Trouble)?,
                Some(executor) => placement::connect_to(&mut self.sockets, endpoint, executor)?,
            }
            let allowed = self.sockets.connection(number).streams_max() as usize;
            if allowed < plan.clients.streams {
                let wanted = plan.clients.streams;
                let text = format!(
                    "{endpoint} allows {allowed} streams on a connection, and not {wanted}: use more connections"
                );
                return Err(Failure::Trouble(text));
            }
        }
        Ok(())
    }

    /// Opens streams that watch, on connections of their own, and waits until the server has taken them up.
    fn watch(&mut self, calls: Vec<Box<dyn LongCall>>) -> Result<(), Failure> {
        if calls.is_empty() {
            return Ok(());
        }
        let first = self.sockets.count();
        let connections = calls.len().min(WATCH_CONNECTIONS);
        for number in 0..connections {
            let endpoint = self.plan.endpoints[number % self.plan.endpoints.len()];
            self.sockets.connect(endpoint).map_err(Failure::Trouble)?;
        }
        let clients = self.plan.clients.connections * self.plan.clients.streams;
        for (number, call) in calls.into_iter().enumerate() {
            let connection = first + number % connections;
            let token = u32::try_from(clients + number).expect("streams are numbered");
            let stream = self.open(connection, token, path::WATCH, true)?;
            for request in call.first() {
                self.sockets.connection(connection).send(stream, &framed(&request), false);
            }
            self.long.push(Long { connection, stream, call });
        }
        (first..first + connections).try_for_each(|number| self.flush(number))?;
        let deadline = Instant::now() + STALL_MAX;
        while !self.long.iter().all(|long| long.call.is_ready()) {
            self.turn(deadline)?;
            if Instant::now() >= deadline {
                return Err(Failure::Trouble(format!("the server doesn't create the watches within {STALL_MAX:?}")));
            }
        }
        Ok(())
    }

    fn open(&mut self, connection: usize, token: u32, path: &'static str, wants: bool) -> Result<u32, Failure> {
        let stream = self.sockets.connection(connection).open(token, path, wants);
        stream.ok_or_else(|| Failure::Trouble("a connection has no numbers for streams left".to_owned()))
    }

    /// Waits for whatever comes first, or until then, and does what follows.
    pub fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.begin_due()?;
        let mut wake = until.min(self.schedule.as_ref().map_or(until, Schedule::next_due));
        if self.plan.live {
            wake = wake.min(self.live.at);
        }
        let mut readable = std::mem::take(&mut self.readable);
        self.sockets.wait(wake, &mut readable).map_err(|why| self.went_away(0, &why))?;
        for number in &readable {
            self.read(*number)?;
        }
        self.readable = readable;
        if self.plan.live {
            self.tell_live();
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> Result<(), Failure> {
        let mut events = std::mem::take(&mut self.events);
        let read = self.sockets.read(number, &mut events);
        // What came has come by now: understanding it is no latency of the server's.
        let now = Instant::now();
        for event in events.list() {
            match &event.what {
                What::Message(range) => self.message(event.token, events.bytes(range), now)?,
                What::Ended(status, bytes) => self.ended(event.token, status, *bytes, now)?,
            }
        }
        events.clear();
        self.events = events;
        read.map_err(|why| self.went_away(number, &why))?;
        self.flush(number)
    }

    fn flush(&mut self, number: usize) -> Result<(), Failure> {
        self.sockets.flush(number).map_err(|why| self.went_away(number, &why))
    }

    fn message(&mut self, token: u32, message: &[u8], now: Instant) -> Result<(), Failure> {
        if let Some(client) = self.clients.get_mut(token as usize) {
            if self.work.stream().is_none() {
                client.take(message);
                return Ok(());
            }
            let bytes = message.len() as u64;
            return self.answered(token, message, bytes, now);
        }
        let long = &mut self.long[token as usize - self.plan.clients.count()];
        let reply = long.call.message(message, now).map_err(|why| Failure::Trouble(format!("watching: {why}")))?;
        if let Some(reply) = reply {
            let (connection, stream) = (long.connection, long.stream);
            self.sockets.connection(connection).send(stream, &framed(&reply), false);
        }
        Ok(())
    }

    fn ended(&mut self, token: u32, status: &Status, bytes: u64, now: Instant) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(token as usize) else {
            return Err(Failure::Trouble(format!("a stream of watches ended: {status:?}")));
        };
        if self.work.stream().is_some() {
            return Err(Failure::Trouble(format!("a stream of keepalives ended: {status:?}")));
        }
        match status {
            Status::Ok => {
                let message = client.answer();
                let answered = self.answered(token, &message, bytes, now);
                if let Some(client) = self.clients.get_mut(token as usize) {
                    client.give_back(message);
                }
                answered
            }
            Status::Error(code, text) => {
                let (ask, _) = client.asked();
                self.tally.failed(*code, text);
                self.work.failed(&ask);
                self.next(token, now)
            }
        }
    }

    /// A call of a client is over, without an error of gRPC.
    fn answered(&mut self, token: u32, message: &[u8], bytes: u64, now: Instant) -> Result<(), Failure> {
        let (ask, began) = self.clients[token as usize].asked();
        match self.work.answered(&ask, message) {
            Ok(fate) => {
                self.tally.succeeded(ask.kind, began, now, bytes, fate);
                if let Some(board) = self.board.as_ref().filter(|_| ask.path == path::PUT) {
                    board.acknowledged(ask.object);
                }
            }
            Err(why) => self.tally.failed(Code::UNKNOWN.0, &why),
        }
        self.next(token, now)
    }

    fn went_away(&self, number: usize, why: &str) -> Failure {
        let endpoints = &self.plan.endpoints;
        let endpoint = endpoints[number % endpoints.len()];
        Failure::Trouble(format!("{endpoint} went away after {} answers: {why}", self.tally.answers()))
    }

    fn tell_live(&mut self) {
        let now = Instant::now();
        if now < self.live.at {
            return;
        }
        let (answers, latencies) = (self.tally.answers(), self.tally.latencies());
        let us = |quantile| latencies.quantile_us(quantile).map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
        let failed: u64 = self.tally.errors().iter().map(|errors| errors.count).sum();
        let rate = answers - self.live.answers;
        eprint!("\r\x1b[K{rate}/s, p50 {} µs, p99 {} µs, {failed} failed", us(0.5), us(0.99));
        std::io::stderr().flush().ok();
        self.live = Live { at: now + LIVE_INTERVAL, answers };
    }
}
