"""Calibrates on the validation split, then measures once on the test split.

    python -m training.evaluate

Everything runs on the exported file in ONNX Runtime. The result goes to
training/.work/evaluation.json, from which the package takes it.
"""

import json

import numpy as np

from training import EVALUATION
from training.decision import APPROVE, Policy
from training.export import normalised, session
from training.train import Split
from training.vial import LABELS

# A bounded range: on a set without errors the likeliest temperature would be 0.
TEMPERATURES = np.geomspace(0.25, 4.0, 281)
APPROVE_CANDIDATES = (0.98, 0.985, 0.99, 0.995)
REJECT_AT = 0.50
# Upper ends of the ranges of the largest extent by which the flawed are reported, in px.
EXTENT_BINS = (20, 30, 50, 100, 1024)


def predict(split: Split) -> np.ndarray:
    """Logits of a whole split."""
    runtime = session()
    chunks = [np.array(split.images[start : start + 16]) for start in range(0, len(split.labels), 16)]
    return np.concatenate([runtime.run(["logits"], {"image": normalised(chunk)})[0] for chunk in chunks])


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Policy:
    """The likeliest temperature, and the lowest `approve_at` that lets no flawed vial through."""

    def surprise(temperature: float) -> float:
        scores = Policy(temperature, 1.0, REJECT_AT).scores(logits)
        return -float(np.log(scores[np.arange(len(labels)), labels] + 1e-12).mean())

    temperature = round(float(min(TEMPERATURES, key=surprise)), 4)
    for approve_at in APPROVE_CANDIDATES:
        policy = Policy(temperature, approve_at, REJECT_AT)
        if count_decisions(policy, logits, labels)["false_approvals"] == 0:
            return policy
    raise ValueError(f"a flawed validation vial is approved even at {APPROVE_CANDIDATES[-1]}")


def count_decisions(policy: Policy, logits: np.ndarray, labels: np.ndarray) -> dict:
    """What the policy decides, by the truth."""
    by_truth = {label: {"approve": 0, "reject": 0, "undecided": 0} for label in LABELS}
    for scores, label in zip(policy.scores(logits), labels, strict=True):
        by_truth[LABELS[label]][policy.verdict(scores)["decision"]] += 1
    flawed = [counts for label, counts in by_truth.items() if label != APPROVE]
    return {
        "by_truth": by_truth,
        "false_approvals": sum(counts["approve"] for counts in flawed),
        "false_rejections": by_truth[APPROVE]["reject"],
        "undecided": sum(counts["undecided"] for counts in by_truth.values()),
    }


def measure(policy: Policy, split: Split, logits: np.ndarray) -> dict:
    """The figures of the model card for one split."""
    labels = split.labels
    predicted = logits.argmax(1)
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (labels, predicted), 1)
    return {
        "n": {label: int((labels == number).sum()) for number, label in enumerate(LABELS)},
        "accuracy": round(float((predicted == labels).mean()), 5),
        "confusion_matrix": {"labels": list(LABELS), "rows_are": "truth", "counts": confusion.tolist()},
        "decisions": count_decisions(policy, logits, labels),
        "found_by_extent_px": found_by_extent(split, predicted),
    }


def found_by_extent(split: Split, predicted: np.ndarray) -> list[dict]:
    """How many of the flawed are not called good, by the extent of their largest defect."""
    flawed = [row for row in split.metadata() if row["defects"]]
    extents = {row["index"]: max(defect["extent_px"] for defect in row["defects"]) for row in flawed}
    found = []
    low = 14
    for high in EXTENT_BINS:
        members = [index for index, extent in extents.items() if low <= extent < high]
        caught = sum(LABELS[predicted[index]] != APPROVE for index in members)
        found.append({"from": low, "to": high, "n": len(members), "found": caught})
        low = high
    return found


def main() -> None:
    validation, test = Split.load("validation"), Split.load("test")
    validation_logits = predict(validation)
    policy = calibrate(validation_logits, validation.labels)
    evaluation = {
        "temperature": policy.temperature,
        "approve_at": policy.approve_at,
        "reject_at": policy.reject_at,
        "validation": measure(policy, validation, validation_logits),
        "test": measure(policy, test, predict(test)),
    }
    EVALUATION.write_text(json.dumps(evaluation, indent=2) + "\n")
    print(json.dumps(evaluation, indent=1))


if __name__ == "__main__":
    main()
