//! Reads a body within its limits, or throws it away.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, Version, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use crate::{
    http::{code::Code, error::ApiError, state::HttpConfig},
    predict::{PredictError, Refusal},
    types::{Digest, Instant, Reason},
};

/// A body that may not be wholly read.
#[derive(Debug)]
pub(in crate::http) struct Upload {
    body: Body,
    version: Version,
    /// The client waits for leave to send it.
    awaits_leave: bool,
    /// Reading on would not end well.
    given_up: bool,
}

/// What to do with the connection once the request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum After {
    /// The body is out of the way.
    Keep,
    /// What is left of the body stands in the way of the next request.
    Close,
}

/// What one body is held to, besides the limits of all.
#[derive(Debug)]
pub(in crate::http) struct Within<'a> {
    /// The limits of all.
    pub(in crate::http) config: &'a HttpConfig,
    /// When the head was complete.
    pub(in crate::http) arrived: Instant,
    /// When the client stops waiting.
    pub(in crate::http) client_deadline: Option<Instant>,
    /// What the body must hash to.
    pub(in crate::http) digest: Option<Digest>,
}

impl Upload {
    pub(in crate::http) fn new(body: Body, version: Version, headers: &HeaderMap) -> Self {
        let awaits_leave = headers.contains_key(header::EXPECT);
        Self { body, version, awaits_leave, given_up: false }
    }

    /// The length declared, if one was.
    pub(in crate::http) fn declared(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Refuses from the head what its length alone condemns.
    pub(in crate::http) fn check_length(&self, config: &HttpConfig) -> Result<(), ApiError> {
        match self.declared() {
            Some(0) => Err(empty()),
            Some(n_bytes) if n_bytes > config.body_limit => Err(too_large(config)),
            Some(_) | None => Ok(()),
        }
    }

    /// All of the body. `grow` accounts for each piece as it comes. A body that came in one piece is
    /// handed on as it is; else it is gathered into one allocation.
    pub(in crate::http) async fn read(
        &mut self,
        within: Within<'_>,
        mut grow: impl FnMut(u64) -> Result<(), Refusal>,
    ) -> Result<Bytes, ApiError> {
        let config = within.config;
        let declared = self.declared();
        let patience = Patience::of(&within);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(patience.until(0)));
        let mut hasher = within.digest.map(|_| Sha256::new());
        let mut gathered = Gathered::Nothing;
        let mut n_frames = 0;
        self.awaits_leave = false; // Asking for the body gives it.
        self.given_up = true; // Until it is whole; an early return leaves a body not worth reading.
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = &mut timer => {
                    let until = patience.until(gathered.len() as u64);
                    if until <= Instant::now() {
                        return Err(patience.ended(config));
                    }
                    timer.as_mut().reset(until);
                    continue;
                }
            };
            let Some(frame) = frame else { break };
            n_frames += 1;
            if n_frames > config.body_frames {
                let detail = format!("at most {} pieces are allowed", config.body_frames);
                return Err(ApiError::new(Code::BodyFragmented, detail));
            }
            let Ok(frame) = frame else {
                let detail = "the connection ended, or broke the protocol, inside the body";
                return Err(ApiError::new(Code::BodyIncomplete, detail));
            };
            // What is no data is trailers; they say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            let n_bytes = data.len() as u64;
            if gathered.len() as u64 + n_bytes > config.body_limit {
                return Err(too_large(config));
            }
            if let Err(refused) = grow(n_bytes) {
                self.given_up = false;
                return Err(PredictError::from(refused).into());
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&data);
            }
            gathered = gathered.with(data, declared);
        }
        self.given_up = false;
        check_digest(within.digest, hasher)?;
        let whole = gathered.into_bytes();
        if whole.is_empty() { Err(empty()) } else { Ok(whole) }
    }

    /// Gets the rest of the body out of the way if that is cheap, so that the connection can carry
    /// the next request; many clients also read no answer before they have sent all.
    pub(in crate::http) async fn discard(mut self, config: &HttpConfig) -> After {
        // HTTP/2 ends the one stream; the connection is not in the way.
        if self.version == Version::HTTP_2 || self.body.is_end_stream() {
            return After::Keep;
        }
        // Asking for a body in order to throw it away would be absurd.
        let too_long = self.declared().is_some_and(|it| it > config.discard_bytes);
        if self.awaits_leave || self.given_up || too_long {
            return After::Close;
        }
        let mut left = config.discard_bytes;
        let drained = async {
            while let Some(frame) = self.body.frame().await {
                let Ok(frame) = frame else { return After::Close };
                let n_bytes = frame.data_ref().map_or(1, |it| it.len().max(1) as u64);
                let Some(rest) = left.checked_sub(n_bytes) else { return After::Close };
                left = rest;
            }
            After::Keep
        };
        tokio::time::timeout(config.discard_timeout, drained).await.unwrap_or(After::Close)
    }
}

/// Memory set aside at most for a body whose length is only declared.
const MAX_FORESIGHT: usize = 1 << 20;

/// A body may come slower than this only for as long as its start is [`HEAD_START`] ago: a
/// connection that does hardly more than stay open holds its bytes for nothing.
const BYTES_PER_SECOND: u64 = 64 << 10;
/// For the client to begin: it may wait for leave, or for a window to open.
const HEAD_START: Duration = Duration::from_secs(2);

/// How long a body is waited for.
#[derive(Debug)]
struct Patience {
    arrived: Instant,
    body_deadline: Instant,
    client_deadline: Option<Instant>,
}

impl Patience {
    fn of(within: &Within<'_>) -> Self {
        let Within { config, arrived, client_deadline, .. } = *within;
        Self { arrived, body_deadline: arrived + config.body_timeout, client_deadline }
    }

    /// Until when, after so many bytes.
    fn until(&self, n_bytes: u64) -> Instant {
        let earned = Duration::from_millis(n_bytes.saturating_mul(1000) / BYTES_PER_SECOND);
        let at_this_rate = self.arrived + HEAD_START + earned;
        let until = at_this_rate.min(self.body_deadline);
        self.client_deadline.map_or(until, |it| it.min(until))
    }

    /// Why it is over, now that it is.
    fn ended(&self, config: &HttpConfig) -> ApiError {
        let now = Instant::now();
        if self.client_deadline.is_some_and(|it| it <= now) {
            let detail = "the request's own deadline passed before its body was there";
            return ApiError::new(Code::Deadline, detail).because(Reason::Deadline);
        }
        let detail = if self.body_deadline <= now {
            format!("the body was not there within {} ms", config.body_timeout.as_millis())
        } else {
            format!(
                "after {} s the body came at less than {} KiB a second",
                HEAD_START.as_secs(),
                BYTES_PER_SECOND >> 10
            )
        };
        ApiError::new(Code::BodyTimeout, detail)
    }
}

/// The pieces of a body so far.
enum Gathered {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(it) => it.len(),
            Self::Many(it) => it.len(),
        }
    }

    fn with(self, data: Bytes, declared: Option<u64>) -> Self {
        let mut all = match self {
            Self::Nothing => return Self::One(data),
            Self::One(first) => {
                // The declared length is within the limit by now, but only a claim: beyond this the
                // memory grows with what comes.
                let n_here = first.len() + data.len();
                let expected = declared.and_then(|it| usize::try_from(it).ok());
                let n_bytes = expected.map_or(2 * n_here, |it| it.min(MAX_FORESIGHT).max(n_here));
                let mut all = BytesMut::with_capacity(n_bytes);
                all.extend_from_slice(&first);
                all
            }
            Self::Many(all) => all,
        };
        all.extend_from_slice(&data);
        Self::Many(all)
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(it) => it,
            Self::Many(it) => it.freeze(),
        }
    }
}

fn check_digest(stated: Option<Digest>, hasher: Option<Sha256>) -> Result<(), ApiError> {
    let (Some(stated), Some(hasher)) = (stated, hasher) else { return Ok(()) };
    let found: String = hasher.finalize().iter().map(|it| format!("{it:02x}")).collect();
    if stated.hex() == found {
        return Ok(());
    }
    let detail = format!("the body received hashes to sha256:{found}, stated was {stated}");
    Err(ApiError::new(Code::ContentDigestMismatch, detail))
}

fn empty() -> ApiError {
    ApiError::new(Code::BodyEmpty, "the body is empty; send an image")
}

fn too_large(config: &HttpConfig) -> ApiError {
    let detail = format!("a body may have at most {} bytes", config.body_limit);
    ApiError::new(Code::BodyTooLarge, detail).because(Reason::ImageTooLarge)
}
