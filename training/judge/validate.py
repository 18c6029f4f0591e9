"""Asks a released version about its test split again, and holds the answers against its card.

    python -m training.judge.validate [VERSION]

Renders the test split where it is not there: its digest must be the one that the card names. Then the
built binary judges it, and the counts must be those of the card.
"""

import argparse
import tomllib

from training import REPOSITORY, WORK
from training.data.generate import digest_of
from training.data.generate import main as generate
from training.judge.measure import measure_test
from training.judge.served import Staged, ask
from training.params import params
from training.report import read_json, shown
from training.rows import read

MODELS = REPOSITORY / "models"
# What must be the same; slices and listings follow from the same answers.
COMPARED = ("confusion_matrix", "decisions")


def served_version(name: str) -> str:
    """The first version that model.toml serves."""
    serve = tomllib.loads((MODELS / name / "model.toml").read_text())["serve"]
    return serve if isinstance(serve, str) else serve[0]


def differences(card: dict, test: dict) -> list[str]:
    return [
        f"{what}: the card says {card['metrics'][what]}, asked again {test[what]}"
        for what in COMPARED
        if card["metrics"][what] != test[what]
    ]


def expected_digest(card: dict, version: Staged) -> str:
    """Of the test split that the card was measured on."""
    split = card["provenance"]["data"]["splits"]["test"]
    # Version 1 is older than the digests of splits.
    if not isinstance(split, dict):
        raise SystemExit(f"{shown(version.folder)}: its card does not say which pictures it was tested on")
    return split["digest"]


def main() -> None:
    name = params()["package"]["name"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", nargs="?", default=served_version(name))
    version = Staged(MODELS, name, parser.parse_args().version)
    card = read_json(version.folder / "card.json", "make train")
    expected = expected_digest(card, version)
    generate(["--only", "test"])
    rows = read("test")
    if (digest := digest_of(rows)) != expected:
        raise SystemExit(f"the test split here is {digest}, that of the card {expected}: other pictures")
    answers = ask(version, rows, WORK / "validation", "test")
    test = measure_test(list(zip(rows, answers, strict=True)))
    if found := differences(card, test):
        raise SystemExit("\n".join([f"{shown(version.folder)} does not answer as its card says:", *found]))
    approvals, kept_back = test["false_approvals"], test["good_not_approved"]
    print(
        f"{shown(version.folder)}: as its card says, on {len(rows)} pictures, {digest}:\n"
        f"false approvals {approvals['count']} of {approvals['n']}, "
        f"good not approved {kept_back['count']} of {kept_back['n']}"
    )


if __name__ == "__main__":
    main()
