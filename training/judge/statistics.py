"""Shares with exact bounds, and how far scores can be trusted as probabilities."""

import numpy as np
from scipy.stats import beta

from training import LABELS

CONFIDENCE = 0.95
RELIABILITY_BINS = 15


def clopper_pearson(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided bounds of a share.

    C. J. Clopper, E. S. Pearson: The use of confidence or fiducial limits illustrated in the case of
    the binomial. Biometrika 26(4), 1934, pages 404-413.
    """
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high


def upper_bound(count: int, n: int, confidence: float = CONFIDENCE) -> float:
    """Exact one-sided upper bound of a share: with 0 of n about 3/n."""
    return clopper_pearson(count, n, 2 * confidence - 1)[1]


def proportion(count: int, n: int) -> dict:
    """A share as reports give it, with two-sided 95 % bounds; of nothing it is unknown."""
    low, high = clopper_pearson(count, n)
    return {
        "count": count,
        "n": n,
        "share": round(count / n, 6) if n else None,
        "low": round(low, 6),
        "high": round(high, 6),
    }


def reliability(scores: np.ndarray, truth: np.ndarray, bins: int = RELIABILITY_BINS) -> dict:
    """How often the likeliest label is right, by its score.

    `scores` is [N, labels], `truth` the number of the right label. `expected_error` is the expected
    calibration error of C. Guo et al.: On Calibration of Modern Neural Networks, ICML 2017,
    arXiv 1706.04599; `brier` is summed over the labels.
    """
    confidence, right = scores.max(1), scores.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = []
    for number in np.unique(place):
        members = place == number
        filled.append(
            {
                "from": round(number / bins, 4),
                "to": round((number + 1) / bins, 4),
                "n": int(members.sum()),
                "confidence": round(float(confidence[members].mean()), 6),
                "accuracy": round(float(right[members].mean()), 6),
            }
        )
    gaps = [it["n"] * abs(it["confidence"] - it["accuracy"]) for it in filled]
    wanted = np.eye(len(LABELS))[truth]
    return {
        "n": len(truth),
        "expected_error": round(sum(gaps) / len(truth), 6),
        "brier": round(float(((scores - wanted) ** 2).sum(1).mean()), 6),
        "bins": filled,
    }
