"""Completes a staged, calibrated, evaluated candidate, proves it, and moves it to models/.

    python -m training.package.assemble CANDIDATE [--replace]

Adds the figures to card.json, MODEL_CARD.md with its pictures, and reference.json; everything else is,
by digest, what was evaluated. The package is put together apart from models/, read by `linesight check`
and asked its golden samples by `linesight doctor`; only then does it get its place. A version that is
there already stays: the new one is then left in training/.work/finished. Which version is
served stays as it was: model.toml is a person's to change.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from training import LABELS, REPOSITORY
from training.candidates import INCUMBENT_VERSION, decode_of, version_of
from training.judge.plots import draw
from training.judge.served import Staged, binary
from training.package import reference
from training.package.card import card, evaluation_of, seal, sealed_files
from training.package.golden import Judge, choose_samples, sources
from training.package.model_card import values
from training.package.origin import beside_origin, origin
from training.package.stage import PLACES, Places, operators_settings, replace, template
from training.params import params
from training.report import shown
from training.rows import read

LEAST_GOLDEN = 24
# What may differ from the files that were evaluated.
ADDED = ("card.json", "MODEL_CARD.md", "reference.json")
ADDED_FOLDER = "figures/"


class Refused(SystemExit):
    """The package is not written; says why. The exit status is 1."""


def package(candidate: str, may_replace: bool = False, places: Places = PLACES) -> Path:
    """The folder of the finished version."""
    version = version_of(candidate)
    if version == INCUMBENT_VERSION:
        raise Refused(f"{candidate} is the network to beat: it is staged and measured, and never packaged")
    staged = Staged(places.staged / candidate, params()["package"]["name"], version)
    check_evaluated(staged, evaluation_of(candidate, places.candidates))
    prove(staged.repository, staged.folder)
    target = place_for(staged, may_replace, places)
    repository = places.sealing / candidate
    shutil.rmtree(repository, ignore_errors=True)
    try:
        folder = repository / staged.name / version
        complete(folder, candidate, staged, places)
        (repository / staged.name / "model.toml").write_text(operators_settings(version, places.models))
        check_only_added(folder, staged.folder)
        prove(repository, folder)
        put(folder, target)
    finally:
        shutil.rmtree(repository, ignore_errors=True)
    return target


def place_for(staged: Staged, may_replace: bool, places: Places) -> Path:
    """In models/, unless another version of this number is there: a released version stays as it is."""
    target = places.models / staged.name / staged.version
    if may_replace or not target.exists():
        return target
    changed = other_than_added(differing(sealed_files(staged.folder), sealed_files(target)))
    if not changed:
        return target
    print(
        f"{shown(target)} exists, is another version {staged.version} ({', '.join(changed[:3])}), and stays. To "
        "release this one, raise package.version in training/params.yaml; or use --replace if that one was never "
        "released"
    )
    return places.finished / staged.name / staged.version


def check_evaluated(staged: Staged, evaluation: dict) -> None:
    if not (staged.folder / "card.json").is_file():
        raise Refused(f"{shown(staged.folder)} is not there: run the pipeline from `stage` on")
    sealed = json.loads((staged.folder / "card.json").read_text())["files"]
    if changed := differing(sealed, sealed_files(staged.folder)):
        raise Refused(f"{shown(staged.folder)} is not as it was sealed: {', '.join(changed)}")
    if evaluation["digest"] != staged.digest:
        raise Refused(
            f"what was evaluated is {evaluation['digest']}, what is staged is {staged.digest}: "
            f"run `python -m training.judge.evaluate {evaluation['candidate']}` again"
        )


def complete(folder: Path, candidate: str, staged: Staged, places: Places) -> None:
    """Puts the whole package into `folder`, sealed."""
    shutil.copytree(staged.folder, folder)
    draw(candidate, folder / "figures", places.candidates)
    reference.write(folder / "reference.json", reference.make(staged, places.data, places.candidates))
    evaluation = evaluation_of(candidate, places.candidates)
    if decode_of(candidate) == "full":
        content = card(candidate, places.candidates, comparison(evaluation, places.comparison))
    else:
        content = card(candidate, places.candidates, beside_origin(evaluation, places.candidates))
        content["provenance"]["derived_from"] = origin(candidate, folder, places.models / staged.name)
    (folder / "MODEL_CARD.md").write_text(template("MODEL_CARD.md").substitute(values(content, candidate)))
    seal(folder, content)


def comparison(evaluation: dict, path: Path) -> dict | None:
    """None where the candidates were not set side by side."""
    if not path.is_file():
        return None
    compared = json.loads(path.read_text())
    if compared["candidates"][evaluation["candidate"]]["digest"] != evaluation["digest"]:
        raise Refused(
            f"{shown(path)} is of an earlier evaluation: run `python -m training.judge.evaluate --compare` again"
        )
    return compared


def check_only_added(folder: Path, evaluated: Path) -> None:
    """File by file, by digest."""
    if others := other_than_added(differing(sealed_files(evaluated), sealed_files(folder))):
        raise Refused(f"not what was evaluated: {', '.join(others)}")


def other_than_added(names: list[str]) -> list[str]:
    return [name for name in names if name not in ADDED and not name.startswith(ADDED_FOLDER)]


def differing(one: dict[str, dict], other: dict[str, dict]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def prove(repository: Path, folder: Path) -> None:
    """Reads the package as the server does, and has it answer its golden samples."""
    samples = json.loads((folder / "golden" / "golden.json").read_text())["samples"]
    if len(samples) < LEAST_GOLDEN or {it["truth"] for it in samples} != set(LABELS):
        raise Refused(f"{len(samples)} golden samples; at least {LEAST_GOLDEN} are needed, and some of every label")
    linesight("check", str(folder))
    linesight("doctor", "--log-level", "off", "--models", str(repository))


def linesight(*arguments: str) -> None:
    ran = subprocess.run([binary(), *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if ran.returncode:
        complaints = "\n".join(filter(None, (ran.stderr.strip(), ran.stdout.strip())))
        raise Refused(f"`linesight {arguments[0]}` refuses the package; nothing is written:\n{complaints}")


def put(folder: Path, target: Path) -> None:
    if target.exists() and not differing(sealed_files(folder), sealed_files(target)):
        print(f"{shown(target)}: there already, the same in everything sealed")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    replace(target, folder)


def write_samples(folder: Path, places: Places = PLACES) -> None:
    """A picture of each label, for the documents: rightly judged, clear of thresholds, not golden."""
    version = Staged(folder.parent.parent, folder.parent.name, folder.name)
    judge = Judge.load(folder, version.policy)
    golden = set(sources(folder / "golden").values())
    rows = [row for row in read("calibration", places.data) if row.index not in golden]
    places.samples.mkdir(parents=True, exist_ok=True)
    found = choose_samples(judge, rows, places.data)
    for label in LABELS:
        if label in found:
            (places.samples / f"{label}.jpg").write_bytes(found[label])
        else:
            kept = shown(places.samples / f"{label}.jpg")
            print(f"{kept}: left as it was, no picture is plainly {label}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candidate")
    parser.add_argument("--replace", action="store_true", help="replace a version that was never released")
    asked = parser.parse_args()
    folder = package(asked.candidate, asked.replace)
    print(f"{shown(folder)}: sealed and proven")
    if folder.is_relative_to(PLACES.models):
        if asked.candidate == params()["package"]["candidate"]:
            write_samples(folder)
        print(f"to serve it, set `serve` in {shown(folder.parent / 'model.toml')}")


if __name__ == "__main__":
    main()
