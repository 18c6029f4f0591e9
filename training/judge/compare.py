"""Candidates side by side, and beside what others have published."""

from training import CANDIDATES, WORK
from training.judge.bar import line
from training.params import params
from training.report import read_json, write_json

COMPARISON = WORK / "comparison.json"
FIGURES = (
    "false_approvals",
    "false_rejections",
    "undecided_good",
    "undecided_flawed",
    "good_not_approved",
    "accuracy",
    "recall",
    "detection",
    "confusion_matrix",
)
# Counts of the case study's own test set: rows are the truth, columns the prediction,
# good, particle, chips_cracks. For reference: other pictures, so nothing here is better or worse by it.
CASE_STUDY = {
    "note": "from the case study, on its own pictures; not comparable with figures on these",
    "labels": ["good", "particle", "chips_cracks"],
    "efficientnet_b0": [[682, 0, 1], [0, 25, 0], [0, 0, 46]],
    "the model before it": [[648, 13, 22], [0, 17, 8], [10, 0, 36]],
}
HUMAN_BASELINE = {
    "measured_here": False,
    "note": "From the literature. No human looked at these pictures, and they have no scale in micrometres, so "
    "none of this can be laid over the curves of this model. Whether it does as well as people on a line takes a "
    "Knapp test there, with containers and not with pictures.",
    "statements": [
        {
            "says": "Visual inspection is probabilistic. A container belongs into the reject zone where people reject "
            "it in at least 70 % of their inspections, so within that zone people detect with 0.7 to 1; a machine "
            "passes if on that zone its mean rejection is not below theirs, at no more false rejections.",
            "reject_zone_from": 0.7,
            "source": "J. Z. Knapp, H. K. Kushner: Generalized Methodology for Evaluation of Parenteral Inspection "
            "Procedures. Journal of the Parenteral Drug Association 34(1), 1980, pages 14-61",
        },
        {
            "says": "People inspect each container for about 5 s against black and 5 s against white, at 2000 to "
            "3750 lux.",
            "seconds_a_container": 10,
            "source": "USP <790>, Visible Particulates in Injections",
        },
        {
            "says": "What takes the place of manual inspection must show equivalent or better performance.",
            "source": "USP <1790>, Visual Inspection of Injections",
        },
    ],
}


def compare() -> dict:
    """Writes comparison.json; raises SystemExit where the candidates were not asked about the same pictures."""
    package = params()["package"]
    names = {"candidate": package["candidate"], "int8": package["int8"]["candidate"], "incumbent": package["incumbent"]}
    evaluations = {
        name: read_json(CANDIDATES / name / "evaluation.json", f"python -m training.judge.evaluate {name}")
        for name in names.values()
    }
    if len({it["data"]["digest"] for it in evaluations.values()}) > 1:
        raise SystemExit(
            "the candidates were evaluated on different sets: run `python -m training.judge.evaluate` on each"
        )
    comparison = {
        "roles": names,
        "candidates": {name: column(evaluation) for name, evaluation in evaluations.items()},
        "bar": against(*(evaluations[names[it]]["test"] for it in ("candidate", "incumbent"))),
        "int8_meets_the_bar": all(it["passed"] for it in evaluations[names["int8"]]["bar"]),
        "case_study": CASE_STUDY,
        "human_baseline": HUMAN_BASELINE,
    }
    write_json(COMPARISON, comparison)
    return comparison


def column(evaluation: dict) -> dict:
    test = evaluation["test"]
    return {
        "version": evaluation["version"],
        "digest": evaluation["digest"],
        "policy": evaluation["policy"],
        **{name: test[name] for name in FIGURES},
        "expected_calibration_error": test["calibration"]["expected_error"],
        "sizes": [{key: it[key] for key in ("from", "to", "n", "share")} for it in evaluation["sizes"]],
        "bar": evaluation["bar"],
    }


def against(candidate: dict, incumbent: dict) -> list[dict]:
    """The lines of the bar that take two networks."""
    approvals, limit = (it["false_approvals"]["count"] for it in (candidate, incumbent))
    kept_back, most = (it["good_not_approved"]["count"] for it in (candidate, incumbent))
    return [
        line("false approvals, against the incumbent's", approvals, "at most", limit),
        line("false rejections and undecided good vials, against the incumbent's", kept_back, "below", most),
    ]
