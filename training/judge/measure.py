"""Figures of a split, from its rows and what was answered about them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from training import LABELS
from training.judge.decision import log_odds, logits_of
from training.judge.served import Answer, Judged
from training.judge.statistics import proportion, reliability, upper_bound
from training.rows import Row

DECISIONS = ("approve", "reject", "undecided")
WORST_LOTS = 5
# Log-odds beyond the ends are counted in the last bins.
ODDS_EDGES = np.arange(-20, 20.5, 0.5)


def tally(judged: Judged) -> dict:
    """The figures that every split, slice and variant is judged by."""
    good = [answer.decision for row, answer in judged if not row.flawed]
    flawed = [answer.decision for row, answer in judged if row.flawed]
    right = sum(likeliest(answer) == row.label for row, answer in judged)
    return {
        "good": len(good),
        "flawed": len(flawed),
        "false_approvals": proportion(flawed.count("approve"), len(flawed)),
        "false_rejections": proportion(good.count("reject"), len(good)),
        "undecided_good": proportion(good.count("undecided"), len(good)),
        "undecided_flawed": proportion(flawed.count("undecided"), len(flawed)),
        "good_not_approved": proportion(len(good) - good.count("approve"), len(good)),
        "accuracy": proportion(right, len(judged)),
    }


def likeliest(answer: Answer) -> str | None:
    """None without scores, which is no label, and so never right."""
    if answer.label_scores is None:
        return None
    return LABELS[max(range(len(LABELS)), key=answer.label_scores.__getitem__)]


def measure_test(judged: Judged) -> dict:
    """Everything that is said of the test split."""
    figures = tally(judged)
    false_approvals = figures["false_approvals"]
    false_approvals["one_sided_upper"] = round(upper_bound(false_approvals["count"], false_approvals["n"]), 6)
    scored = [(row, answer) for row, answer in judged if answer.label_scores]
    scores = np.array([answer.label_scores for _, answer in scored])
    return {
        "n": dict(Counter(row.label for row, _ in judged)),
        **figures,
        "confusion_matrix": confusion(judged),
        "decisions": by_truth(judged, lambda answer: answer.decision, DECISIONS),
        "recall": recall(judged, lambda row, answer: likeliest(answer) == row.label, LABELS),
        "detection": recall(judged, lambda _, answer: answer.decision != "approve", LABELS[1:]),
        "slices": slices(judged),
        "calibration": reliability(scores, np.array([LABELS.index(row.label) for row, _ in scored])),
        "log_odds": odds_histogram(scores, np.array([row.flawed for row, _ in scored])),
        "false_approvals_listed": listed(judged, lambda row, answer: row.flawed and answer.decision == "approve"),
        "false_rejections_listed": listed(judged, lambda row, answer: not row.flawed and answer.decision == "reject"),
    }


def by_truth(judged: Judged, outcome: Callable[[Answer], str | None], outcomes: Iterable[str]) -> dict:
    counts = Counter((row.label, outcome(answer)) for row, answer in judged)
    return {label: {it: counts[label, it] for it in outcomes} for label in LABELS}


def confusion(judged: Judged) -> dict:
    """The form of the case study's table; a picture without scores is in no column."""
    table = by_truth(judged, likeliest, LABELS)
    return {
        "labels": list(LABELS),
        "rows_are": "truth",
        "columns_are": "highest score",
        "counts": [list(row.values()) for row in table.values()],
    }


def recall(judged: Judged, found: Callable[[Row, Answer], bool], labels: Iterable[str]) -> dict:
    """Of the vials of each label, the share that was found."""
    by_label = grouped(judged, lambda row: row.label)
    return {label: share_found(by_label.get(label, []), found) for label in labels}


def share_found(judged: Judged, found: Callable[[Row, Answer], bool]) -> dict:
    return proportion(sum(found(row, answer) for row, answer in judged), len(judged))


def grouped(judged: Judged, key: Callable[[Row], object]) -> dict:
    """By what `key` says of a row, sorted; rows of which it says nothing are left out."""
    groups = defaultdict(list)
    for row, answer in judged:
        if (value := key(row)) is not None:
            groups[value].append((row, answer))
    return dict(sorted(groups.items()))


def slices(judged: Judged) -> dict:
    """The fairness table: does what is not a defect change how a vial is judged?"""
    by_lot = sliced(judged, lambda row: row.lot)
    by_lot.sort(key=lambda it: (-it["false_approvals"]["count"], -(it["good_not_approved"]["share"] or 0.0)))
    return {
        "fill_level": fill_slices(judged),
        "lamp": sliced(judged, lambda row: row.lamp),
        "vial_size": sliced(judged, lambda row: row.vial_size),
        "lot": {"lots": len(by_lot), "worst": by_lot[:WORST_LOTS]},
    }


def sliced(judged: Judged, key: Callable[[Row], object]) -> list[dict]:
    return [{"slice": it, **tally(members)} for it, members in grouped(judged, key).items()]


def fill_slices(judged: Judged) -> list[dict]:
    """Thirds: as many vials in each."""
    known = [(row, answer) for row, answer in judged if row.fill_level is not None]
    if not known:
        return []
    edges = np.quantile([row.fill_level for row, _ in known], [1 / 3, 2 / 3])
    names = (f"below {edges[0]:.2f}", f"{edges[0]:.2f} to {edges[1]:.2f}", f"from {edges[1]:.2f}")
    thirds = sliced(known, lambda row: int(np.searchsorted(edges, row.fill_level, "right")))
    return [{**third, "slice": names[third["slice"]]} for third in thirds]


def measure_sizes(judged: Judged, edges: list[float]) -> list[dict]:
    """Detection against the largest extent of the defect, in px of the picture."""
    # Of a bin the lower end belongs to it; the last one also holds what is larger.
    numbers = range(len(edges) - 1)
    by_bin = grouped(judged, lambda row: min(int(np.searchsorted(edges, row.extent_px, "right")) - 1, numbers[-1]))
    return [{"from": edges[it], "to": edges[it + 1], **detected_by_kind(by_bin.get(it, []))} for it in numbers]


def detected_by_kind(judged: Judged) -> dict:
    by_kind = grouped(judged, lambda row: row.defects[0].kind)
    return {**detected(judged), "by_kind": {kind: detected(members) for kind, members in by_kind.items()}}


def detected(judged: Judged) -> dict:
    return share_found(judged, lambda _, answer: answer.decision != "approve")


def measure_robustness(changed: Judged, test: Judged) -> list[dict]:
    """A row for each way of changing a picture; the first is of the same pictures as they were."""
    originals = {row.variant["of"] for row, _ in changed}
    unchanged = [(row, answer) for row, answer in test if row.index in originals]
    variants = grouped(changed, lambda row: (row.variant["kind"], row.variant["level"]))
    return [
        {"kind": "unchanged", "level": None, **tally(unchanged)},
        *({"kind": kind, "level": level, **tally(members)} for (kind, level), members in variants.items()),
    ]


def unanswered(judged: Judged) -> list[str]:
    """What counts as undecided because nothing was said of it, and why."""
    return [f"{row.path}: {answer.error}" for row, answer in judged if answer.label_scores is None]


def odds_histogram(scores: np.ndarray, flawed: np.ndarray) -> dict:
    odds = np.clip(log_odds(logits_of(scores)), ODDS_EDGES[0], ODDS_EDGES[-1])
    return {
        "edges": ODDS_EDGES.tolist(),
        "good": np.histogram(odds[~flawed], ODDS_EDGES)[0].tolist(),
        "flawed": np.histogram(odds[flawed], ODDS_EDGES)[0].tolist(),
    }


def listed(judged: Judged, concerns: Callable[[Row, Answer], bool]) -> list[dict]:
    return [
        {
            "index": row.index,
            "path": row.path,
            "label": row.label,
            "defects": [{"kind": it.kind, "extent_px": it.extent_px, "contrast": it.contrast} for it in row.defects],
            "confusers": row.confusers,
            "scores": answer.label_scores,
            "reason": answer.reason,
            "error": answer.error,
        }
        for row, answer in judged
        if concerns(row, answer)
    ]
