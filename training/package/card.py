"""card.json: where a version comes from, what was measured, and the seal over its files.

Figures are those of calibration.json, evaluation.json and comparison.json; nothing is computed here.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from training import REPOSITORY, TRAINING
from training.candidates import trained_as
from training.params import params
from training.report import read_json

SCHEMA = "linesight.card/1"
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pillow",
    "opencv-python-headless",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "dvc",
)
# Of evaluation.json: a line a picture, or a number a bin of a curve that is drawn.
LONG = ("false_approvals_listed", "false_rejections_listed", "log_odds")


def identity(version: str, kind: str, state: str = "") -> dict:
    """What every card starts with; `kind` is that of the pictures, `state` a sentence."""
    pictures = "synthetic pictures" if kind == "synthetic" else kind
    sentences = ("Classifies pictures of vials: good, particle, chips_cracks.", state)
    return {
        "schema": SCHEMA,
        "name": params()["package"]["name"],
        "version": version,
        "synthetic": kind == "synthetic",
        "summary": " ".join([*filter(None, sentences), f"Trained and measured on {pictures} only."]),
    }


def card(candidate: str, candidates: Path, comparison: dict | None) -> dict:
    """All of card.json but the seal."""
    evaluation = evaluation_of(candidate, candidates)
    calibration = read_json(
        candidates / candidate / "calibration.json", f"python -m training.judge.calibrate {candidate}"
    )
    test = {key: value for key, value in evaluation["test"].items() if key not in LONG}
    return {
        **identity(evaluation["version"], evaluation["data"]["kind"]),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "provenance": {
            "source_revision": source_revision(),
            "dvc_lock": digest_of(TRAINING / "dvc.lock"),
            "data": {"generator": "training/vial", **evaluation["data"]},
            "seeds": {name: params()[name]["seed"] for name in ("data", "train")},
            "recipe": {"parameters": params(), "training": recipe_of(candidate, candidates)},
            "libraries": {name: installed(name) for name in LIBRARIES},
            "hardware": hardware(),
            "binary": evaluation["binary"],
        },
        "parity": read_json(candidates / candidate / "parity.json", "the stage that exports the candidate"),
        "calibration": calibration,
        "metrics": {"split": "test", "evaluated": evaluation["digest"], **test},
        "unanswered": evaluation["unanswered"],
        "sizes": evaluation["sizes"],
        "robustness": evaluation["robustness"],
        "bar": evaluation["bar"],
        "comparison": comparison,
        "not_checked": ["distribution", "image_quality"],
    }


def evaluation_of(candidate: str, candidates: Path) -> dict:
    return read_json(candidates / candidate / "evaluation.json", f"python -m training.judge.evaluate {candidate}")


def recipe_of(candidate: str, candidates: Path) -> dict:
    """The checkpoint's own record of how it was trained; where there is none, that of its original."""
    checkpoint = candidates / trained_as(candidate) / "checkpoint.pt"
    return json.loads(torch.load(checkpoint, weights_only=True)["recipe"])


def seal(folder: Path, card: dict) -> None:
    """Writes card.json, last, over everything else in the folder."""
    sealed = {**card, "files": sealed_files(folder)}
    (folder / "card.json").write_text(json.dumps(sealed, indent=2) + "\n")


def sealed_files(folder: Path) -> dict[str, dict]:
    """Digest and size of all files that a card lists, by their path: all but itself and attestations/."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    outside = ("card.json", "attestations/")
    return {name: entry(path) for name, path in paths.items() if not name.startswith(outside)}


def entry(path: Path) -> dict:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def digest_of(path: Path) -> str | None:
    return f"sha256:{entry(path)['sha256']}" if path.is_file() else None


def installed(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def source_revision() -> str:
    """The last commit of the training code, if the tree it ran from was committed."""
    code = ["--", "training/*.py", "training/params.yaml", "training/templates"]
    git = ["git", "-C", str(REPOSITORY)]
    changed = subprocess.run([*git, "status", "--porcelain", *code], capture_output=True, text=True)
    if changed.returncode or changed.stdout.strip():
        return "unreleased"
    head = subprocess.run([*git, "log", "-1", "--format=%H", *code], capture_output=True, text=True)
    return head.stdout.strip() or "unreleased"


def hardware() -> str:
    """Cores and processor of the machine that packages, as Linux names them."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} CPU cores, {model}"
