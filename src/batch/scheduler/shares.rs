//! Fair shares: while several models are asked for more than can be answered in time, each is let in
//! in proportion to its weight.
//!
//! A model contends from a refusal until none of its items has been refused for a while. Among
//! contenders the work let in is added up, divided by the model's weight; whoever is ahead of another
//! waits for it: it is let in only up to half its target, which keeps the lanes busy and leaves the
//! others room. Order of service is not touched.

use std::time::Duration;

use crate::{batch::event::ModelKey, types::Instant};

/// A model that was refused nothing for so long is no longer short of anything.
const CONTENDS_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Contender {
    model: ModelKey,
    /// Core seconds let in since it contends, divided by its weight.
    served: f64,
    refused_at: Instant,
}

/// The models that contend; mostly none.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Contender>);

impl Shares {
    /// Whether it has had more than its share beside those that compete with it.
    pub(super) fn is_ahead(
        &mut self,
        model: ModelKey,
        competes: impl Fn(ModelKey) -> bool,
        now: Instant,
    ) -> bool {
        self.0.retain(|it| now.saturating_duration_since(it.refused_at) < CONTENDS_FOR);
        let Some(own) = self.0.iter().find(|it| it.model == model).map(|it| it.served) else {
            // Whoever is let in whatever it asks for leaves the contenders to the rest.
            return false;
        };
        self.0.iter().any(|it| it.served < own && competes(it.model))
    }

    /// Takes note of work let in.
    pub(super) fn admitted(&mut self, model: ModelKey, cost: Duration, weight: u32) {
        if let Some(it) = self.0.iter_mut().find(|it| it.model == model) {
            it.served += cost.as_secs_f64() / f64::from(weight.max(1));
        }
    }

    /// Takes note of a refusal. Who begins to contend begins level with the one served least.
    pub(super) fn refused(&mut self, model: ModelKey, now: Instant) {
        if let Some(it) = self.0.iter_mut().find(|it| it.model == model) {
            it.refused_at = now;
            return;
        }
        let least = self.0.iter().map(|it| it.served).min_by(f64::total_cmp);
        let served = least.unwrap_or_default();
        self.0.push(Contender { model, served, refused_at: now });
    }

    pub(super) fn remove(&mut self, model: ModelKey) {
        self.0.retain(|it| it.model != model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ModelKey = ModelKey(0);
    const B: ModelKey = ModelKey(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn alone_nobody_is_ahead() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        assert!(!shares.is_ahead(A, |_| true, now));
        shares.refused(A, now);
        shares.admitted(A, SECOND, 1);
        assert!(!shares.is_ahead(A, |_| true, now));
    }

    #[test]
    fn who_has_had_more_for_its_weight_is_ahead_while_another_contends() {
        let (mut shares, now) = (Shares::default(), Instant::now());
        shares.refused(A, now);
        shares.admitted(A, SECOND * 100, 1);
        shares.refused(B, now);
        assert!(!shares.is_ahead(A, |_| true, now), "who comes later begins level");
        shares.admitted(A, SECOND * 3, 2);
        shares.admitted(B, SECOND, 1);
        assert!(shares.is_ahead(A, |_| true, now));
        assert!(!shares.is_ahead(B, |_| true, now));
        shares.admitted(B, SECOND, 1);
        assert!(!shares.is_ahead(A, |_| true, now));
        assert!(shares.is_ahead(B, |_| true, now));
        let later = now + CONTENDS_FOR;
        shares.refused(B, later);
        assert!(!shares.is_ahead(B, |_| true, later), "A was refused nothing for long");
    }
}
