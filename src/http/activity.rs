//! What a connection is doing, and when it will have taken too long over it.
//!
//! hyper has a timer for request heads, but its clock also runs while a kept-alive connection waits
//! for the next request, so five seconds for a head would mean five seconds of keep-alive; and it
//! has none for idle HTTP/2 connections or slow readers. Hence these, as plain data: [`Progress`]
//! takes what happened and when, and says what is [`due`](Progress::due).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::types::Instant;

/// What every HTTP/2 connection begins with; no HTTP/1 request can.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take over each part of a connection, its bodies apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) first_byte: Duration,
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
    pub(super) linger: Duration,
}

/// What a client took too long over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    FirstByte,
    Header,
    Idle,
    Write,
}

impl Phase {
    /// The label of `connections_timed_out_total`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FirstByte => "first_byte",
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Write => "write",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// So many bytes came, and all of them are the start of HTTP/2's preface.
    Unknown(usize),
    Http1,
    Http2,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Progress {
    opened: Instant,
    protocol: Protocol,
    /// When the first byte of a head came whose request has not begun; HTTP/1 only, as the frames
    /// of HTTP/2 (pings, settings) need not belong to a request.
    head_began: Option<Instant>,
    /// Requests at work: from their head to their answer's head.
    serving: usize,
    /// Answers whose body is not yet wholly handed over.
    writing: usize,
    /// The socket took nothing when there was something to write: what hyper holds of an answer
    /// whose body it has already taken.
    stalled: bool,
    /// When an answer last made progress.
    moved: Instant,
    /// Which timer ended the connection, if one did.
    expired: Option<Phase>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        let protocol = Protocol::Unknown(0);
        Self {
            opened: now,
            protocol,
            head_began: None,
            serving: 0,
            writing: 0,
            stalled: false,
            moved: now,
            expired: None,
        }
    }

    fn read(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        if let Protocol::Unknown(seen) = self.protocol {
            let rest = &HTTP2_PREFACE[seen..];
            let n_common = rest.len().min(bytes.len());
            self.protocol = if bytes[..n_common] != rest[..n_common] {
                Protocol::Http1
            } else if n_common == rest.len() {
                self.moved = now;
                Protocol::Http2
            } else {
                Protocol::Unknown(seen + n_common)
            };
        }
        if self.serving == 0 && self.writing == 0 {
            self.head_began.get_or_insert(now);
        }
    }

    fn begin(&mut self) {
        self.serving += 1;
        self.head_began = None;
    }

    /// The socket took something, or did not. Only what follows a stall counts as progress: the
    /// pings of HTTP/2 are written to idle connections too.
    fn wrote(&mut self, took: bool, now: Instant) {
        if self.stalled == took {
            self.stalled = !took;
            self.moved = now;
        }
    }

    /// What the client must have done next, and by when; `None` while only the server is at work.
    pub(super) fn due(&self, timeouts: &Timeouts) -> Option<(Phase, Instant)> {
        if self.protocol == Protocol::Unknown(0) {
            return Some((Phase::FirstByte, self.opened + timeouts.first_byte));
        }
        if self.writing > 0 || self.stalled {
            return Some((Phase::Write, self.moved + timeouts.write));
        }
        if self.serving > 0 {
            return None;
        }
        match (self.protocol, self.head_began) {
            (Protocol::Unknown(_) | Protocol::Http1, Some(began)) => {
                Some((Phase::Header, began + timeouts.header))
            }
            (Protocol::Http2, _) | (_, None) => Some((Phase::Idle, self.moved + timeouts.idle)),
        }
    }
}

/// A connection's [`Progress`], shared by its stream and its requests.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    /// Held for a few lines of plain data, never across an await.
    progress: Arc<Mutex<Progress>>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { progress: Arc::new(Mutex::new(Progress::new(Instant::now()))) }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        // Plain data: whatever panicked left it whole.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, bytes: &[u8]) {
        self.lock().read(bytes, Instant::now());
    }

    /// The socket took something of an answer, or took nothing.
    pub(super) fn wrote(&self, took: bool) {
        self.lock().wrote(took, Instant::now());
    }

    pub(super) fn due(&self, timeouts: &Timeouts) -> Option<(Phase, Instant)> {
        self.lock().due(timeouts)
    }

    /// Notes that a timer ended the connection.
    pub(super) fn expire(&self, phase: Phase) {
        self.lock().expired = Some(phase);
    }

    /// Which timer ended the connection, if one did.
    pub(super) fn expired(&self) -> Option<Phase> {
        self.lock().expired
    }

    /// A request's head is complete; ends when the value is dropped.
    pub(super) fn begin(&self) -> Serving {
        self.lock().begin();
        Serving(self.clone())
    }
}

/// A request at work.
#[derive(Debug)]
pub(super) struct Serving(Activity);

impl Serving {
    /// Its answer is ready and begins to be written.
    pub(super) fn answered(self) -> Writing {
        let activity = self.0.clone();
        let mut progress = activity.lock();
        progress.writing += 1;
        progress.moved = Instant::now();
        drop(progress);
        Writing(activity)
        // `self` ends here, after `writing` was raised: at no moment does the request look over.
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut progress = self.0.lock();
        progress.serving -= 1;
        progress.moved = Instant::now();
    }
}

/// An answer being handed over; ends when the value is dropped.
#[derive(Debug)]
pub(super) struct Writing(Activity);

impl Writing {
    /// A piece of the answer was taken.
    pub(super) fn moved(&self) {
        self.0.lock().moved = Instant::now();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut progress = self.0.lock();
        progress.writing -= 1;
        progress.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        first_byte: Duration::from_secs(1),
        header: Duration::from_secs(5),
        idle: Duration::from_secs(60),
        write: Duration::from_secs(30),
        linger: Duration::from_secs(1),
    };

    type Step<'a> = &'a dyn Fn(&mut Progress, Instant);

    /// Runs `steps` one second apart and says what is due after them, in seconds from the start.
    #[track_caller]
    fn check(steps: &[Step<'_>], expected: Option<(Phase, u64)>) {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        for (step, after) in steps.iter().zip(1..) {
            step(&mut progress, start + Duration::from_secs(after));
        }
        let due = progress.due(&TIMEOUTS).map(|(phase, at)| (phase, (at - start).as_secs()));
        assert_eq!(due, expected);
    }

    fn end(progress: &mut Progress, now: Instant) {
        progress.serving -= 1;
        progress.moved = now;
    }

    #[test]
    fn each_phase_has_its_own_clock() {
        let get = |it: &mut Progress, now| it.read(b"GET /", now);
        let begin = |it: &mut Progress, _: Instant| it.begin();
        check(&[], Some((Phase::FirstByte, 1)));
        check(&[&get], Some((Phase::Header, 6)));
        check(&[&get, &get], Some((Phase::Header, 6)));
        check(&[&get, &begin], None);
        check(&[&get, &begin, &get], None);
        check(&[&get, &begin, &end], Some((Phase::Idle, 63)));
        check(&[&get, &begin, &end, &get], Some((Phase::Header, 9)));
        let write = |it: &mut Progress, now: Instant| {
            it.writing += 1;
            end(it, now);
        };
        check(&[&get, &begin, &write], Some((Phase::Write, 33)));
        // The answer is handed over, and the client takes it a little at a time.
        let stall = |it: &mut Progress, now| it.wrote(false, now);
        let took = |it: &mut Progress, now| it.wrote(true, now);
        check(&[&get, &begin, &end, &stall], Some((Phase::Write, 34)));
        check(&[&get, &begin, &end, &stall, &stall], Some((Phase::Write, 34)));
        check(&[&get, &begin, &end, &stall, &took], Some((Phase::Idle, 65)));
        check(&[&get, &begin, &end, &stall, &took, &stall], Some((Phase::Write, 36)));
        check(&[&get, &begin, &end, &took], Some((Phase::Idle, 63)));
    }

    #[test]
    fn frames_of_http2_are_no_slow_head() {
        let half = |it: &mut Progress, now| it.read(&HTTP2_PREFACE[..10], now);
        let rest = |it: &mut Progress, now| it.read(&HTTP2_PREFACE[10..], now);
        let ping = |it: &mut Progress, now| it.read(b"\0\0\x08\x06\0\0\0\0\0pingpong", now);
        check(&[&half], Some((Phase::Header, 6)));
        check(&[&half, &rest], Some((Phase::Idle, 62)));
        check(&[&half, &rest, &ping, &ping], Some((Phase::Idle, 62)));
        let other = |it: &mut Progress, now| it.read(b"PRIX", now);
        check(&[&other], Some((Phase::Header, 6)));
    }
}
