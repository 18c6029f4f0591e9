//! Slows down clients that ask again before they were told to.
//!
//! A refused request still costs its upload: clients that retry at once can halve what is answered.
//! So a connection that comes back before its `Retry-After` has its next refusal held for a moment.
//! Only refusals are held, never an answer. A proxy's connection carries the requests of many
//! clients, so one that ever brought a forwarding header is left alone.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, header};

use crate::types::Instant;

/// How long a refusal is held. Nobody is asked to stay away for less than this: `Retry-After` counts
/// whole seconds.
const HELD_FOR: Duration = Duration::from_millis(250);
/// What proxies add.
const FORWARDING: [HeaderName; 3] =
    [header::FORWARDED, HeaderName::from_static("x-forwarded-for"), header::VIA];

/// What one connection was told; shared by its requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Pacing(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    /// It was asked to stay away until then.
    until: Option<Instant>,
    is_proxy: bool,
}

impl Pacing {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request that begins now comes too early.
    pub(super) fn is_early(&self, headers: &HeaderMap, now: Instant) -> bool {
        let mut told = self.lock();
        told.is_proxy |= FORWARDING.iter().any(|it| headers.contains_key(it));
        !told.is_proxy && told.until.is_some_and(|it| now < it)
    }

    /// Takes note of a refusal; says until when to hold it, if the request came too early.
    pub(super) fn refused(
        &self,
        retry_after: Duration,
        was_early: bool,
        now: Instant,
    ) -> Option<Instant> {
        let held_until = was_early.then(|| now + HELD_FOR);
        // It is told when it has its answer.
        self.lock().until = Some(held_until.unwrap_or(now) + retry_after);
        held_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_comes_back_early_is_held_and_who_waits_is_not() {
        let (pacing, now, none) = (Pacing::default(), Instant::now(), HeaderMap::new());
        assert!(!pacing.is_early(&none, now));
        assert_eq!(pacing.refused(SECOND, false, now), None);
        assert!(pacing.is_early(&none, now + SECOND / 2));
        let held = now + HELD_FOR;
        assert_eq!(pacing.refused(SECOND, true, now), Some(held));
        assert!(pacing.is_early(&none, held + SECOND / 2), "told when it had its answer");
        assert!(!pacing.is_early(&none, held + SECOND));
    }

    #[test]
    fn a_connection_that_ever_was_a_proxys_is_left_alone() {
        for name in ["Forwarded", "X-Forwarded-For", "Via"] {
            let (pacing, now) = (Pacing::default(), Instant::now());
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::try_from(name).unwrap(), "x".parse().unwrap());
            pacing.refused(SECOND, false, now);
            assert!(!pacing.is_early(&headers, now), "{name}");
            assert!(!pacing.is_early(&HeaderMap::new(), now), "{name} before");
        }
    }
}
