"""From logits to a verdict, by the same rule that the server applies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from training import APPROVE, LABELS

# A score may differ by this much on another machine; to approve takes that much more.
SCORE_TOLERANCE = 0.001
# About the smallest normal f32, in which the server computes.
SMALLEST_SCORE = 1e-37


@dataclass(frozen=True)
class Policy:
    """Thresholds on the calibrated scores."""

    temperature: float
    approve_at: float
    reject_at: float

    @classmethod
    def of(cls, report: Mapping) -> Self:
        """The policy that a report states, among other things."""
        return cls(report["temperature"], report["approve_at"], report["reject_at"])

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


def logits_of(scores: np.ndarray) -> np.ndarray:
    """The logits that a softmax made these scores of, up to a constant a row."""
    return np.log(np.maximum(scores, SMALLEST_SCORE))


def log_odds(logits: np.ndarray) -> np.ndarray:
    """ln(good / all flaws together), a row.

    From the flaws' own scores: `1 - good` would have no digits left where it matters.
    """
    approve = LABELS.index(APPROVE)
    return logits[:, approve] - np.logaddexp.reduce(np.delete(logits, approve, axis=1), axis=1)
