"""Assembles and seals models/vial-defect/1 and the sample pictures.

    python -m training.package

Replaces the folder as a whole; `card.json` is written last and names the
digest of every other file.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from string import Template

import torch

from training import CHECKPOINT, DATA, EVALUATION, ONNX, REPOSITORY
from training.decision import Policy
from training.export import session
from training.golden import Judge, Slot, anything, as_jpeg, find, kind, record
from training.vial.dataset import SPLITS

NAME, VERSION = "vial-defect", "1"
FOLDER = REPOSITORY / "models" / NAME / VERSION
SAMPLES = REPOSITORY / "training" / "samples"
TEMPLATES = REPOSITORY / "training" / "templates"
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "onnx", "onnxruntime")
SAMPLE_SLOTS = (
    Slot("good", "good", "", anything, as_jpeg),
    Slot("particle", "particle", "", kind("speck", 26, 60), as_jpeg),
    Slot("chips_cracks", "chips_cracks", "", kind("crack", 90, 300), as_jpeg),
)


def main() -> None:
    evaluation = json.loads(EVALUATION.read_text())
    policy = Policy(evaluation["temperature"], evaluation["approve_at"], evaluation["reject_at"])
    judge = Judge(session(), policy)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    shutil.copyfile(ONNX, FOLDER / "model.onnx")
    fill("package.toml", evaluation)
    fill("MODEL_CARD.md", card_values(evaluation))
    taken: set[int] = set()
    SAMPLES.mkdir(exist_ok=True)
    for slot in SAMPLE_SLOTS:
        (SAMPLES / f"{slot.name}.jpg").write_bytes(find(slot, judge, taken))
    record(FOLDER / "golden", judge, taken)
    seal(evaluation)
    print(f"{FOLDER.relative_to(REPOSITORY)}: sealed")


def fill(name: str, values: dict) -> None:
    template = Template((TEMPLATES / name).read_text())
    (FOLDER / name).write_text(template.substitute(values))


def card_values(evaluation: dict) -> dict:
    """What the model card's template asks for."""
    recipe, test, validation = stored_recipe(), evaluation["test"], evaluation["validation"]
    decisions = test["decisions"]
    return {
        **{key: evaluation[key] for key in ("temperature", "approve_at", "reject_at")},
        **{f"{name}_size": split.size for name, split in SPLITS.items()},
        "accuracy": f"{test['accuracy']:.2%}",
        "validation_accuracy": f"{validation['accuracy']:.2%}",
        "minutes": round(recipe["seconds"] / 60),
        "confusion": confusion_table(test["confusion_matrix"]),
        "decisions": decision_table(decisions["by_truth"]),
        "extents": extent_table(test["found_by_extent_px"]),
        "false_approvals": decisions["false_approvals"],
        "false_rejections": decisions["false_rejections"],
        "undecided": decisions["undecided"],
        "flawed": sum(count for label, count in test["n"].items() if label != "good"),
        "good": test["n"]["good"],
    }


def confusion_table(confusion: dict) -> str:
    labels = confusion["labels"]
    lines = ["| truth | " + " | ".join(f"called {label}" for label in labels) + " |", "|---" * 4 + "|"]
    for label, counts in zip(labels, confusion["counts"], strict=True):
        lines.append(f"| {label} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def decision_table(by_truth: dict) -> str:
    lines = ["| truth | approve | reject | undecided |", "|---" * 4 + "|"]
    for label, counts in by_truth.items():
        lines.append(f"| {label} | {counts['approve']} | {counts['reject']} | {counts['undecided']} |")
    return "\n".join(lines)


def extent_table(bins: list[dict]) -> str:
    lines = ["| largest extent, px of 1024 | vials | not called good |", "|---" * 3 + "|"]
    for entry in bins:
        lines.append(f"| {entry['from']} to {entry['to']} | {entry['n']} | {entry['found']} |")
    return "\n".join(lines)


def stored_recipe() -> dict:
    return json.loads(torch.load(CHECKPOINT, weights_only=True)["recipe"])


def seal(evaluation: dict) -> None:
    """Writes card.json over everything else in the folder."""
    summary = json.loads((DATA / "summary.json").read_text())
    test = evaluation["test"]
    card = {
        "schema": "linesight.card/1",
        "name": NAME,
        "version": VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "synthetic": True,
        "summary": "Classifies synthetic pictures of vials: good, particle, chips_cracks. "
        "Trained and measured on synthetic pictures only.",
        "provenance": {
            "source_revision": source_revision(),
            "data": {"kind": "synthetic", "generator": "training/vial", **summary},
            "recipe": stored_recipe(),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
            "hardware": hardware(),
        },
        "calibration": {
            "split": "validation",
            "temperature": evaluation["temperature"],
            "approve_at": evaluation["approve_at"],
            "reject_at": evaluation["reject_at"],
            "validation": evaluation["validation"],
        },
        "metrics": {"split": "test", **test},
        "not_checked": ["distribution"],
        "files": {name: entry(path) for name, path in sealed_files()},
    }
    (FOLDER / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def sealed_files() -> list[tuple[str, Path]]:
    paths = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.name != "card.json")
    return [(path.relative_to(FOLDER).as_posix(), path) for path in paths]


def entry(path: Path) -> dict:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def source_revision() -> str:
    """The commit of the training code, if the tree it ran from was committed."""
    git = ["git", "-C", str(REPOSITORY)]
    changed = subprocess.run([*git, "status", "--porcelain", "--", "training/*.py"], capture_output=True, text=True)
    if changed.returncode or changed.stdout.strip():
        return "unreleased"
    head = subprocess.run([*git, "log", "-1", "--format=%H", "--", "training"], capture_output=True, text=True)
    return head.stdout.strip() or "unreleased"


def hardware() -> str:
    """Cores and processor, as Linux names them."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} CPU cores, {model}"


if __name__ == "__main__":
    main()
