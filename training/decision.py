"""From logits to a verdict, by the same rule that the server applies."""

from dataclasses import dataclass

import numpy as np

from training.vial import LABELS

APPROVE = "good"
# A score may differ by this much on another machine; to approve takes that much more.
SCORE_TOLERANCE = 0.001


@dataclass(frozen=True)
class Policy:
    """Thresholds on the calibrated scores."""

    temperature: float
    approve_at: float
    reject_at: float

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated scores in label order, for one row or many."""
        scaled = logits.astype(np.float64) / self.temperature
        powers = np.exp(scaled - scaled.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def verdict(self, scores: np.ndarray) -> dict:
        if scores[LABELS.index(APPROVE)] >= self.approve_at + SCORE_TOLERANCE:
            return {"decision": "approve", "reason": "ok", "class": None}
        score, label = self.worst_flaw(scores)
        if score >= self.reject_at:
            return {"decision": "reject", "reason": "defect", "class": label}
        return {"decision": "undecided", "reason": "low_confidence", "class": None}

    def worst_flaw(self, scores: np.ndarray) -> tuple[float, str]:
        return max((float(score), label) for score, label in zip(scores, LABELS, strict=True) if label != APPROVE)

    def margin(self, scores: np.ndarray) -> float:
        """How far the scores are from the nearest threshold that could change the verdict."""
        to_approve = abs(float(scores[LABELS.index(APPROVE)]) - self.approve_at)
        return min(to_approve, abs(self.worst_flaw(scores)[0] - self.reject_at))
