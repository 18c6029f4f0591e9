"""Measures a staged, calibrated candidate through the binary; or sets candidates side by side.

    python -m training.judge.evaluate CANDIDATE
    python -m training.judge.evaluate --compare

The test split chooses nothing: it is asked about once the thresholds are set. Everything goes to
evaluation.json beside the candidate; the few figures that an experiment is known by, and the points of
its curves, go to training/metrics, which is versioned.
"""

import argparse
import subprocess
from dataclasses import asdict

from training import CANDIDATES, DATA, TRAINING
from training.judge.bar import bar, in_words, worst_share
from training.judge.compare import compare
from training.judge.decision import Policy
from training.judge.measure import measure_robustness, measure_sizes, measure_test, unanswered
from training.judge.served import binary, judged, staged
from training.params import params
from training.report import read_json, write_json, write_text

METRICS = TRAINING / "metrics"


def evaluate(candidate: str) -> dict:
    version = staged(candidate)
    check_calibrated(candidate, version.policy)
    summary = read_json(DATA / "summary.json", "python -m training.data.generate")
    test = judged(version, candidate, "test")
    # Photographs come without masks, and so without the sizes of their defects.
    sized, changed = (
        judged(version, candidate, it) if (DATA / f"{it}.jsonl").exists() else [] for it in ("sizes", "robustness")
    )
    figures = measure_test(test)
    sizes = measure_sizes(sized, params()["data"]["sizes"]["edges"]) if sized else []
    return {
        "schema": "linesight.evaluation/1",
        "candidate": candidate,
        "version": version.version,
        "digest": version.digest,
        "binary": subprocess.run([binary(), "--version"], capture_output=True, text=True).stdout.strip(),
        "data": summary,
        "policy": asdict(version.policy),
        "bar": bar(figures, sizes),
        "test": figures,
        "sizes": sizes,
        "robustness": measure_robustness(changed, test) if changed else [],
        "unanswered": unanswered([*test, *sized, *changed]),
    }


def check_calibrated(candidate: str, policy: Policy) -> None:
    """Figures at provisional thresholds would say nothing."""
    command = f"python -m training.judge.calibrate {candidate}"
    calibration = read_json(CANDIDATES / candidate / "calibration.json", command)
    if policy != Policy.of(calibration):
        raise SystemExit(f"{candidate} was staged again after its calibration: run `{command}` first")


def write_metrics(evaluation: dict) -> None:
    test, candidate = evaluation["test"], evaluation["candidate"]
    metrics = {
        "false_approvals": test["false_approvals"]["count"],
        "false_rejections": test["false_rejections"]["count"],
        "undecided_good": test["undecided_good"]["count"],
        "accuracy": test["accuracy"]["share"],
        "worst_bin_from_14px": worst_share(evaluation["sizes"]),
        "ece": test["calibration"]["expected_error"],
    }
    write_json(METRICS / f"{candidate}.json", metrics)
    write_table(f"{candidate}/sizes.csv", ("from", "to", "n", "share", "low", "high"), evaluation["sizes"])
    write_table(f"{candidate}/reliability.csv", ("confidence", "accuracy", "n"), test["calibration"]["bins"])


def write_table(name: str, columns: tuple[str, ...], entries: list[dict]) -> None:
    lines = [columns, *([str(entry[column]) for column in columns] for entry in entries)]
    write_text(METRICS / name, "".join(",".join(it) + "\n" for it in lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("candidate", nargs="?")
    what.add_argument("--compare", action="store_true")
    asked = parser.parse_args()
    if asked.compare:
        print(in_words(compare()["bar"]))
        return
    evaluation = evaluate(asked.candidate)
    write_json(CANDIDATES / asked.candidate / "evaluation.json", evaluation)
    write_metrics(evaluation)
    print(in_words(evaluation["bar"]))


if __name__ == "__main__":
    main()
