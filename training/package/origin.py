"""The released version whose network another version serves with other preprocessing.

The weights are the same, and so is what they were trained on; everything that depends on pixels is
made anew. The card of the later version names the earlier one, and has the figures of both.
"""

from pathlib import Path

from training.candidates import trained_as, version_of
from training.judge.compare import column
from training.package.card import digest_of, entry, evaluation_of
from training.report import shown

NETWORK = "model.onnx"
ANEW = (
    'decode = "scaled"; temperature and thresholds, by the same rule from the calibration split; golden samples and '
    "reference statistics; all figures, on the same pictures"
)


def origin(candidate: str, folder: Path, released: Path) -> dict:
    """`folder` has the candidate's network, `released` the versions of the model that are in models/."""
    version = released / version_of(trained_as(candidate))
    if not (version / "card.json").is_file():
        raise SystemExit(f"{shown(version)} is not there: the version with this network has to be packaged first")
    if entry(version / NETWORK) != entry(folder / NETWORK):
        raise SystemExit(f"{shown(version)} has another network than {shown(folder)}")
    return {
        "version": version.name,
        "digest": digest_of(version / "card.json"),
        "the_same": {NETWORK: entry(version / NETWORK)["sha256"]},
        "anew": ANEW,
    }


def beside_origin(evaluation: dict, candidates: Path) -> dict:
    """Both on the same pictures; raises SystemExit where they were not."""
    names = (trained_as(evaluation["candidate"]), evaluation["candidate"])
    earlier = evaluation_of(names[0], candidates)
    if earlier["data"]["digest"] != evaluation["data"]["digest"]:
        raise SystemExit(f"{names[0]} was evaluated on another set: run `python -m training.judge.evaluate` on both")
    return {"candidates": {name: column(it) for name, it in zip(names, (earlier, evaluation), strict=True)}}
