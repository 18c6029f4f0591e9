"""Takes photographs in place of rendered pictures into training/.work/data.

    python -m training.data.intake SOURCE

SOURCE is a folder with one folder a label, or a manifest: a CSV file with the columns path and
label, and with split, lot, lamp, vial_size and fill_level where they are known.

Every problem of the source is found and named before anything is written. The set is put together
in a folder beside its place and moved there at the end. The pictures stay where they are: rows
name their files, and only what a network learns from is kept, at input size.
"""

import argparse
import hashlib
import shutil
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from training import DATA, LABELS
from training.data.fingerprint import Fingerprints
from training.data.generate import summary
from training.data.near import near_pairs
from training.data.parallel import mapped
from training.data.sources import SPLITS, Photograph, listed
from training.data.variants import write_robustness
from training.params import params
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, input_array
from training.report import write_json
from training.rows import CACHED, Row, read, write

# With fewer of a label a split may get none, or so few that its figures say nothing.
FEWEST = 50
# How many of a hundred pictures, or lots, go where.
SHARES = {"train": 60, "validation": 10, "calibration": 15, "test": 15}


class Refused(Exception):
    """The source has problems; nothing was written."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def intake(source: Path, data: Path = DATA, fewest: int = FEWEST) -> None:
    """Makes `data` of the photographs, or raises Refused and leaves it as it was."""
    source = source.resolve()
    if source.is_relative_to(data.resolve()):
        raise Refused([f"{source}: this is where the set is written; keep the photographs in a place of their own"])
    photographs, problems = listed(source)
    digests, unreadable = digests_of(photographs)
    fingerprints = Fingerprints(data.parent / "fingerprints.bin")
    unfit = fingerprints.add([(digest, photograph.file) for photograph, digest in digests.items()])
    problems += unreadable
    problems += [f"{it.name}: {unfit[it.file]}" for it in photographs if it.file in unfit]
    fit = {it: digest for it, digest in digests.items() if digest in fingerprints.records}
    problems += duplicates(fit, fingerprints)
    splits = {it: it.split or split_of(it.lot or digest) for it, digest in fit.items()}
    problems += lots_apart(splits)
    problems += too_few(splits, fewest) if photographs else []
    if problems:
        raise Refused(problems)
    for warning in look_alikes(fit, fingerprints):
        print(f"look at {warning}", file=sys.stderr)
    write_set(rows_of(splits, fit), data)


def digests_of(photographs: list[Photograph]) -> tuple[dict[Photograph, str], list[str]]:
    """The digests of the files' bytes, and the files that could not be read."""
    digests, problems = {}, []
    for photograph in photographs:
        try:
            with open(photograph.file, "rb") as content:
                digests[photograph] = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            problems.append(f"{photograph.name}: it cannot be read ({error.strerror}); make it readable")
    return digests, problems


def duplicates(fit: dict[Photograph, str], fingerprints: Fingerprints) -> list[str]:
    """Pictures that are there before, as the same file or with the same pixels."""
    problems = []
    firsts: dict[bytes, Photograph] = {}
    for photograph, digest in fit.items():
        first = firsts.setdefault(fingerprints.records[digest]["pixels"].tobytes(), photograph)
        if first is photograph:
            continue
        same = "the same file as" if fit[first] == digest else "another file, but with the pixels, of"
        right = "keep one of the two"
        if first.label != photograph.label:
            same, right = f"labelled {photograph.label}, but {same}", f"{right}, under the label that is true"
        problems.append(f"{photograph.name}: {same} {first.name} ({first.label}); {right}")
    return problems


def split_of(key: str) -> str:
    """By chance, but always the same for a lot, or for a picture without one, whatever else is added."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) * 100 / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    raise AssertionError("the shares add up to a hundred")


def lots_apart(splits: dict[Photograph, str]) -> list[str]:
    """Lots that a manifest puts into more than one split."""
    found = defaultdict(set)
    for photograph, split in splits.items():
        if photograph.lot:
            found[photograph.lot].add(split)
    return [
        f"lot {lot}: it is in {' and '.join(sorted(of))}; a lot belongs to one split, because its vials look alike"
        for lot, of in found.items()
        if len(of) > 1
    ]


def too_few(splits: dict[Photograph, str], fewest: int) -> list[str]:
    """Labels with too few pictures that can be used, or none in one of the splits."""
    problems = []
    counts = Counter(it.label for it in splits)
    shared = Counter((it.label, split) for it, split in splits.items())
    for label in LABELS:
        if counts[label] < fewest:
            problems.append(
                f"{label}: {counts[label]} pictures that can be used, but {fewest} are needed, so that every split "
                f"gets some; add {fewest - counts[label]}"
            )
            continue
        problems += [
            f"{label}: none of its {counts[label]} pictures is in {split}; add pictures of other lots, or name "
            "the split of every picture in a manifest"
            for split in SPLITS
            if not shared[label, split]
        ]
    return problems


def look_alikes(fit: dict[Photograph, str], fingerprints: Fingerprints) -> list[str]:
    """Pairs of nearly the same picture under two labels: one of them may be wrong."""
    photographs = list(fit)
    labels = np.array([LABELS.index(it.label) for it in photographs])
    pairs, _ = near_pairs(fingerprints.of(fit.values()), labels)
    named = [(photographs[pair.first], photographs[pair.second]) for pair in pairs]
    return [f"{one.name} ({one.label}) and {other.name} ({other.label}): nearly the same" for one, other in named]


def rows_of(splits: dict[Photograph, str], digests: dict[Photograph, str]) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for it, split in splits.items():
        known = {"lot": it.lot, "lamp": it.lamp, "vial_size": it.vial_size, "fill_level": it.fill_level}
        rows[split].append(Row(split, len(rows[split]), it.label, digests[it], str(it.file), **known))
    return rows


def write_set(rows: dict[str, list[Row]], data: Path) -> None:
    """Puts the set together in data.part, going on with what an interrupted run left of the same rows."""
    part = data.with_name(f"{data.name}.part")
    if not all((part / f"{split}.jsonl").exists() and read(split, part) == of for split, of in rows.items()):
        shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, exist_ok=True)
    for split, of in rows.items():
        write(split, of, part)
    for split in rows.keys() & set(CACHED):
        cache_inputs(rows[split], part / f"{split}.images.npy")
    write_robustness(rows["test"], part, params()["data"]["robustness"]["each"])
    stated = {**summary(part), "kind": "photographs", "generator_revision": None}
    write_json(part / "summary.json", stated)
    # A folder cannot be replaced in one step; what was stays until the new one is in its place.
    before = data.with_name(f"{data.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if data.exists():
        data.rename(before)
    part.rename(data)
    shutil.rmtree(before, ignore_errors=True)


def cache_inputs(rows: list[Row], target: Path) -> None:
    """The pictures as a network sees them, u8 [N, INPUT_HEIGHT, INPUT_WIDTH, 3]; none of it if it is there."""
    shape = (len(rows), INPUT_HEIGHT, INPUT_WIDTH, 3)
    if target.exists() and np.load(target, mmap_mode="r").shape == shape:
        return
    unfinished = target.with_suffix(".part")
    images = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
    inputs = mapped(lambda row: input_array(Path(row.path).read_bytes()), rows, target.name)
    for index, image in enumerate(inputs):
        images[index] = image
    images.flush()
    unfinished.rename(target)


def run(source: Path, data: Path = DATA) -> None:
    """As a program: says what is wrong and ends with 2."""
    try:
        intake(source, data)
    except Refused as refused:
        print(refused, file=sys.stderr)
        print(f"problems: {len(refused.problems)}; nothing was written", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a folder with one folder a label, or a manifest.csv")
    run(parser.parse_args().source)


if __name__ == "__main__":
    main()
