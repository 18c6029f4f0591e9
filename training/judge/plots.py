"""The curves of a model card as pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training import CANDIDATES
from training.judge.bar import DETECTED_FROM_PX, DETECTION_LEAST
from training.params import params
from training.report import read_json

# Told apart by those who see colours differently: M. Okabe, K. Ito, Color Universal Design, 2002.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
INCHES, DOTS_AN_INCH = (7.0, 4.0), 90


def draw(candidate: str, folder: Path, candidates: Path = CANDIDATES) -> list[str]:
    """Writes the pictures into `folder`; returns their names."""
    names = [candidate]
    if candidate != (incumbent := params()["package"]["incumbent"]):
        names.append(incumbent)
    evaluations = {
        name: read_json(candidates / name / "evaluation.json", f"python -m training.judge.evaluate {name}")
        for name in names
    }
    own = evaluations[candidate]
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if own["sizes"]:
        drawn.append(picture(folder / "detection.png", own, lambda axes: draw_detection(axes, evaluations)))
    drawn.append(picture(folder / "reliability.png", own, lambda axes: draw_reliability(axes, own)))
    drawn.append(picture(folder / "log_odds.png", own, lambda axes: draw_log_odds(axes, own)))
    if own["robustness"]:
        drawn.append(picture(folder / "robustness.png", own, lambda axes: draw_robustness(axes, own)))
    return drawn


def picture(path: Path, evaluation: dict, fill: Callable[[Axes], None]) -> str:
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    fill(axes)
    pictures = "synthetic pictures" if evaluation["data"]["kind"] == "synthetic" else evaluation["data"]["kind"]
    axes.set_title(f"{axes.get_title()} ({pictures})", fontsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    # Without the library's version in the file, the same figures give the same bytes.
    figure.savefig(path, dpi=DOTS_AN_INCH, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return path.name


def draw_detection(axes: Axes, evaluations: dict[str, dict]) -> None:
    for (name, evaluation), colour, marker in zip(evaluations.items(), (BLUE, ORANGE), "os", strict=False):
        bins = evaluation["sizes"]
        # A little apart, so that one does not hide the other.
        centres = np.sqrt([it["from"] * it["to"] for it in bins]) * (1.02 if colour == ORANGE else 1.0)
        share, low, high = (np.array([it[key] for it in bins], float) for key in ("share", "low", "high"))
        axes.errorbar(
            centres, share, yerr=(share - low, high - share), color=colour, marker=marker, capsize=3, label=name
        )
    edges = [bins[0]["from"], *(it["to"] for it in bins)]
    axes.axvline(DETECTED_FROM_PX, color=GREY, linestyle="--", label=f"{DETECTED_FROM_PX} px")
    axes.axhline(DETECTION_LEAST, color=GREY, linestyle=":", label=f"{DETECTION_LEAST}")
    axes.set_xscale("log")
    axes.set_xticks(edges, [f"{it:g}" for it in edges])
    axes.minorticks_off()
    axes.set(
        xlabel="largest extent of the defect, px of the picture (bin ends)",
        ylabel="share not approved",
        title="Detection by size, exact 95 % bounds",
    )
    axes.legend(loc="lower right")


def draw_reliability(axes: Axes, evaluation: dict) -> None:
    calibration = evaluation["test"]["calibration"]
    confidence, accuracy, n = (np.array([it[key] for it in calibration["bins"]]) for key in
                               ("confidence", "accuracy", "n"))  # fmt: skip
    axes.plot([0.3, 1], [0.3, 1], color=GREY, linestyle="--", label="as often right as the score says")
    axes.plot(confidence, accuracy, color=BLUE, marker="o", label=evaluation["candidate"])
    for x, y, count in zip(confidence, accuracy, n, strict=True):
        axes.annotate(f"{count:,}", (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set(
        xlabel="score of the likeliest label (numbers: vials of the test split)",
        ylabel="share right",
        ylim=(-0.03, 1.08),
        title=f"Reliability, expected error {calibration['expected_error']:.4f}",
    )
    axes.legend(loc="lower right")


def draw_log_odds(axes: Axes, evaluation: dict) -> None:
    histogram, policy = evaluation["test"]["log_odds"], evaluation["policy"]
    edges = np.array(histogram["edges"])
    for name, colour in (("good", BLUE), ("flawed", ORANGE)):
        axes.stairs(histogram[name], edges, fill=True, alpha=0.5, color=colour, label=name)
        axes.stairs(histogram[name], edges, color=colour)
    counts = np.array(histogram["good"]) + np.array(histogram["flawed"])
    filled = np.flatnonzero(counts)
    approve, reject = odds(policy["approve_at"]), -odds(policy["reject_at"])
    axes.axvline(approve, color=GREEN, label=f"approved above: good {policy['approve_at']:g}")
    axes.axvline(reject, color="black", linestyle="--", label=f"rejected below: one flaw {policy['reject_at']:g}")
    axes.set(
        xlim=(min(edges[filled[0]], reject) - 0.5, max(edges[filled[-1] + 1], approve) + 0.5),
        yscale="log",
        # Room for the legend.
        ylim=(0.7, counts.max() * 10),
        xlabel="ln(good / all flaws together)",
        ylabel="vials of the test split",
        title="What the thresholds divide",
    )
    axes.legend(loc="upper center", ncols=2, fontsize=8)


def odds(score: float) -> float:
    return float(np.log(score / (1 - score)))


def draw_robustness(axes: Axes, evaluation: dict) -> None:
    variants = evaluation["robustness"]
    names = [it["kind"] if it["level"] is None else f"{it['kind']} {it['level']:g}" for it in variants]
    places = np.arange(len(names))
    bars = (("good_not_approved", "good, not approved", BLUE), ("false_approvals", "flawed, approved", ORANGE))
    for number, (key, label, colour) in enumerate(bars):
        share, low, high = (np.array([it[key][part] or 0.0 for it in variants]) for part in ("share", "low", "high"))
        axes.barh(places + 0.2 - 0.4 * number, share, 0.4, color=colour, label=label,
                  xerr=(share - low, high - share), error_kw={"capsize": 2, "ecolor": GREY})  # fmt: skip
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlabel="share, exact 95 % bounds", title="Pictures of the test split, changed in one way")
    axes.legend(fontsize=8)
