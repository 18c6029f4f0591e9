"""Sets temperature and thresholds of a staged candidate, from the calibration split alone.

    python -m training.judge.calibrate CANDIDATE

One rule for every network, in log-odds z = ln(good / all flaws together), after the temperature:

- Temperature: the likeliest, within bounds, on the calibration split as it is: the mix of its labels is
  not changed to that of any other split.
- approve_at: above every flawed vial of the split, and above the level that a flawed vial exceeds with
  chance `approve_risk`. That level comes from an exponential tail fitted to the excesses of the flawed
  that look best (peaks over a threshold with shape 0; S. Coles: An Introduction to Statistical Modeling
  of Extreme Values, Springer 2001, section 4.3). The server demands a tolerance more than approve_at.
- reject_at: at least 0.5, and so high that at most `reject_share` of the good of the split are rejected.
- Where a threshold would come out above THRESHOLD_MOST, the temperature is raised until it does not: the
  tolerance is one of scores, and close to 1 it would span most of what sets vials apart. Softer scores
  rank vials (but for the split among the flaws) as before.
"""

import argparse
import math
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit

from training import APPROVE, CANDIDATES, LABELS, PROVISIONAL
from training.judge.decision import Policy, log_odds, logits_of
from training.judge.measure import unanswered
from training.judge.served import judged, staged
from training.judge.statistics import reliability
from training.package.stage import set_thresholds
from training.params import params
from training.report import write_json

SPLIT = "calibration"
# On a set without errors the likeliest temperature would be 0.
TEMPERATURES = np.geomspace(0.25, 4.0, 281)
# Of the flawed, the share that looks best; their tail is fitted.
TAIL_SHARE = 0.05
# What is less likely than nine to one is not approved, however well the flawed are told apart.
APPROVE_LEAST = 0.9
REJECT_LEAST = 0.5
# There the tolerance of 0.001 is worth 0.1 in log-odds; at 0.999 no score would be high enough.
THRESHOLD_MOST = 0.99
SOFTENING = 1.01


@dataclass(frozen=True)
class Tail:
    """An exponential tail: above `start` lie `n` of the flawed, by `mean_excess` on average."""

    start: float
    mean_excess: float
    n: int
    # What a flawed vial exceeds with the chance that was asked for.
    level: float
    highest: float


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    def surprise(temperature: float) -> float:
        scores = Policy(temperature, 1.0, 1.0).scores(logits)
        return -float(np.log(scores[np.arange(len(truth)), truth] + 1e-12).mean())

    return round(float(min(TEMPERATURES, key=surprise)), 4)


def tail_of(odds: np.ndarray, risk: float) -> Tail:
    """`odds`: the log-odds of the flawed, at least two."""
    falling = np.sort(odds)[::-1]
    n = max(1, round(TAIL_SHARE * len(falling)))
    start = falling[n]
    mean_excess = float((falling[:n] - start).mean())
    level = start + mean_excess * math.log(n / len(falling) / risk)
    return Tail(float(start), mean_excess, n, float(level), float(falling[0]))


def lowest_approve_at(tail: Tail) -> float:
    odds = max(tail.level, tail.highest)
    return max(APPROVE_LEAST, math.ceil(expit(odds) * 1e4) / 1e4)


def lowest_reject_at(worst_flaws: np.ndarray, share: float) -> float:
    """`worst_flaws`: of each good vial the highest score of a flaw."""
    allowed = int(share * len(worst_flaws))
    first_to_spare = np.sort(worst_flaws)[::-1][allowed]
    # The next step above it: a score that is equal to the threshold rejects.
    return max(REJECT_LEAST, (math.floor(first_to_spare * 1e3) + 1) / 1e3)


def thresholds(logits: np.ndarray, truth: np.ndarray, temperature: float, decide: dict) -> tuple[Policy, Tail]:
    good = truth == LABELS.index(APPROVE)
    tail = tail_of(log_odds(logits[~good] / temperature), decide["approve_risk"])
    worst = np.delete(Policy(temperature, 1.0, 1.0).scores(logits[good]), LABELS.index(APPROVE), axis=1).max(1)
    return Policy(temperature, lowest_approve_at(tail), lowest_reject_at(worst, decide["reject_share"])), tail


def calibrate(logits: np.ndarray, truth: np.ndarray, decide: dict) -> tuple[Policy, Tail]:
    """The policy by the rule, and the tail it rests on, at the temperature of the policy."""
    policy, tail = thresholds(logits, truth, fit_temperature(logits, truth), decide)
    while max(policy.approve_at, policy.reject_at) > THRESHOLD_MOST:
        policy, tail = thresholds(logits, truth, round(policy.temperature * SOFTENING, 4), decide)
    return policy, tail


def report(logits: np.ndarray, truth: np.ndarray, decide: dict) -> dict:
    """What calibration.json says of the split."""
    policy, tail = calibrate(logits, truth, decide)
    likeliest = fit_temperature(logits, truth)
    decisions = {label: Counter({"approve": 0, "reject": 0, "undecided": 0}) for label in LABELS}
    for scores, number in zip(policy.scores(logits), truth, strict=True):
        decisions[LABELS[number]][policy.verdict(scores)["decision"]] += 1
    return {
        **asdict(policy),
        "likeliest_temperature": likeliest,
        "rule": in_words(policy, likeliest, decide),
        "n": {label: int((truth == number).sum()) for number, label in enumerate(LABELS)},
        "decisions": decisions,
        "flawed_tail": asdict(tail),
        "before": reliability(Policy(1.0, 1.0, 1.0).scores(logits), truth),
        "after": reliability(policy.scores(logits), truth),
    }


def in_words(policy: Policy, likeliest: float, decide: dict) -> str:
    softened = (
        f", raised from the likeliest, {likeliest}, until both thresholds were at most {THRESHOLD_MOST}"
        if policy.temperature != likeliest
        else ", the likeliest"
    )
    return (
        f"temperature {policy.temperature}{softened}; approve_at is the lowest of at least {APPROVE_LEAST} that "
        f"approves no flawed vial of the calibration split, and that by an exponential tail of their "
        f"best-looking {TAIL_SHARE:.0%} a flawed vial reaches with a chance of at most {decide['approve_risk']:g}; "
        f"reject_at is the lowest of at least {REJECT_LEAST} that rejects at most {decide['reject_share']:g} of the "
        "good of the calibration split"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidate")
    candidate = parser.parse_args().candidate
    version = staged(candidate, PROVISIONAL)
    asked = judged(version, candidate, SPLIT)
    answered = [(row, answer) for row, answer in asked if answer.label_scores]
    truth = np.array([LABELS.index(row.label) for row, _ in answered])
    for flawed, what in ((False, "good"), (True, "flawed")):
        if (count := int(((truth != LABELS.index(APPROVE)) == flawed).sum())) < 2:
            raise SystemExit(f"{SPLIT}: {count} {what} vials have an answer; a threshold needs at least 2")
    # At temperature 1, so they are logits, but for a constant.
    logits = logits_of(np.array([answer.label_scores for _, answer in answered]))
    decide = params()["decide"]
    calibration = {
        "candidate": candidate,
        "split": SPLIT,
        **report(logits, truth, decide),
        "asked_of": version.digest,
        "unanswered": unanswered(asked),
    }
    write_json(CANDIDATES / candidate / "calibration.json", calibration)
    policy = Policy.of(calibration)
    set_thresholds(candidate, policy)
    print(f"{candidate}: {calibration['rule']}\n{policy}")


if __name__ == "__main__":
    main()
