"""Writes a candidate as a complete package, for the server to be asked about.

    python -m training.package.stage CANDIDATE

The package goes to training/.work/provisional/CANDIDATE, a model repository of its own. Its thresholds
are provisional until `training.judge.calibrate` has set them; it is not for use before
`training.package.assemble` has added what was measured.
"""

import argparse
import json
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from training import CANDIDATES, DATA, PROVISIONAL, REPOSITORY, STAGED, TRAINING, WORK
from training.candidates import decode_of, version_of
from training.judge.compare import COMPARISON
from training.judge.decision import Policy
from training.package.card import identity, seal
from training.package.golden import Judge, choose, record, sources
from training.package.golden_slots import SLOTS
from training.params import params
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH
from training.report import read_json, shown
from training.rows import read

UNCALIBRATED = Policy(temperature=1.0, approve_at=0.98, reject_at=0.5)
TEMPLATES = TRAINING / "templates"


@dataclass(frozen=True)
class Places:
    """Where things are read and written; tests have places of their own."""

    data: Path = DATA
    candidates: Path = CANDIDATES
    provisional: Path = PROVISIONAL
    staged: Path = STAGED
    models: Path = REPOSITORY / "models"
    sealing: Path = WORK / "sealing"
    finished: Path = WORK / "finished"
    samples: Path = TRAINING / "samples"
    comparison: Path = COMPARISON

    def provisional_version(self, candidate: str) -> Path:
        return version_in(self.provisional, candidate)

    def staged_version(self, candidate: str) -> Path:
        return version_in(self.staged, candidate)


def version_in(root: Path, candidate: str) -> Path:
    """The folder of a candidate's version, in its own model repository under `root`."""
    return root / candidate / params()["package"]["name"] / version_of(candidate)


PLACES = Places()


def stage(candidate: str, places: Places = PLACES) -> Path:
    """The folder of the version, with provisional thresholds."""
    folder = places.provisional_version(candidate)
    model = places.candidates / candidate / "model.onnx"
    if not model.is_file():
        raise SystemExit(f"{shown(model)} is not there: run the stage of the pipeline that exports {candidate} first")
    with whole(folder) as part:
        shutil.copyfile(model, part / "model.onnx")
        fill(part, candidate, UNCALIBRATED, {}, places)
    (folder.parent / "model.toml").write_text(operators_settings(folder.name, places.models))
    return folder


def set_thresholds(candidate: str, policy: Policy, places: Places = PLACES) -> Path:
    """Stages the provisional version with these thresholds, and the golden answers that they give.

    The golden pictures stay, save those that are now too close to a threshold, or wrongly approved;
    which pictures are borderline depends on the thresholds, so those are chosen anew.
    """
    provisional, folder = places.provisional_version(candidate), places.staged_version(candidate)
    if not (provisional / "card.json").is_file():
        raise SystemExit(f"{shown(provisional)} is not there: run `python -m training.package.stage {candidate}` first")
    with whole(folder) as part:
        shutil.copyfile(provisional / "model.onnx", part / "model.onnx")
        fill(part, candidate, policy, sources(provisional / "golden"), places)
    shutil.copyfile(provisional.parent / "model.toml", folder.parent / "model.toml")
    return folder


def fill(part: Path, candidate: str, policy: Policy, kept: dict[str, int], places: Places) -> None:
    """Everything but the model, which is there."""
    kind = read_json(places.data / "summary.json", "python -m training.data.generate")["kind"]
    values = {
        "temperature": policy.temperature,
        "approve_at": policy.approve_at,
        "reject_at": policy.reject_at,
        "height": INPUT_HEIGHT,
        "width": INPUT_WIDTH,
        "decode": decode_of(candidate),
    }
    (part / "package.toml").write_text(template("package.toml").substitute(values))
    of_slots = {slot.name: kept[slot.name] for slot in SLOTS if slot.name in kept}
    judge = Judge.load(part, policy)
    samples = choose(judge, read("calibration", places.data), places.data, of_slots)
    record(part / "golden", samples, kind, judge.decode)
    card = identity(version_of(candidate), kind, "Provisional: calibrated and measured nowhere yet.")
    (part / "MODEL_CARD.md").write_text(
        f"# {card['name']}, version {card['version']}, provisional\n\n"
        f"A candidate of the training pipeline, {candidate}, on {kind} pictures. It was not measured yet and is "
        "not for use.\n"
    )
    seal(part, card)


def template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text())


def operators_settings(version: str, models: Path) -> str:
    """model.toml: the budget of the model as it is served, and this version."""
    served = models / params()["package"]["name"] / "model.toml"
    budget = tomllib.loads(served.read_text())["budget"]
    lines = (f"{key} = {json.dumps(value)}\n" for key, value in budget.items())
    return f"serve = {json.dumps(version)}\n\n[budget]\n{''.join(lines)}"


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` when all went well and else goes away.

    Its name starts with a dot: the server does not look at it.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        replace(folder, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace(folder: Path, by: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    by.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidate")
    print(f"{shown(stage(parser.parse_args().candidate))}: staged, thresholds provisional")


if __name__ == "__main__":
    main()
