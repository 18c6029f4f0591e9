"""Refuses a set that cannot be trained on or judged with.

    python -m training.data.check

What is refused: splits that are missing or differ from the summary, pictures that are there twice
or are nearly the same in two splits, lots in two splits, labels that metadata or masks contradict.
Everything found is named, and written with counts and shares to training/.work/check.json.
"""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import DATA, LABELS, WORK
from training.data import audit
from training.data.fingerprint import Fingerprints, fingerprint
from training.data.generate import summary
from training.data.near import MOST_BITS, MOST_LEVELS, Pair, near_pairs
from training.data.parallel import mapped
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH
from training.report import load_json, write_json
from training.rows import CACHED, JUDGED, RENDERED, Row, read

REPORT = WORK / "check.json"
# Near pairs beyond these are counted and not named: what makes so many has one cause.
MOST_NAMED = 100


@dataclass(frozen=True)
class Set:
    """The rows of every split, and where they and their pictures are."""

    data: Path
    stated: dict
    rows: dict[str, list[Row]]

    @property
    def is_synthetic(self) -> bool:
        return self.stated["kind"] == "synthetic"

    def cached(self) -> list[str]:
        """The splits of which only inputs are kept."""
        return [split for split in CACHED if split in self.rows]

    def originals(self) -> list[Row]:
        """All but the variants, which are like the pictures of test on purpose."""
        return [row for split, of in self.rows.items() if split != "robustness" for row in of]

    def file(self, row: Row) -> Path | None:
        return self.data / row.path if row.path else None


def load(data: Path) -> tuple[Set | None, list[str]]:
    """The set, or None and what is missing of it."""
    stated = load_json(data / "summary.json")
    if stated is None:
        return None, [f"{data}: there is no whole set here; run python -m training.data.generate"]
    needed = [split for split in (*CACHED, *JUDGED) if split not in RENDERED or stated["kind"] == "synthetic"]
    missing = [split for split in needed if not (data / f"{split}.jsonl").exists()]
    if missing:
        return None, [f"{split}: the split is missing; run python -m training.data.generate" for split in missing]
    return Set(data, stated, {split: read(split, data) for split in needed}), []


def counts_differ(found: Set) -> Iterator[str]:
    """Splits that are not those that the summary tells of."""
    actual = summary(found.data)["splits"]
    for split in sorted(actual.keys() | found.stated["splits"].keys()):
        counted, stated = actual.get(split), found.stated["splits"].get(split)
        if counted is None or stated is None or counted["n"] != stated["n"]:
            yield f"{split}: the summary says {stated and stated['n']}, but there are {counted and counted['n']}"
        elif counted["digest"] != stated["digest"]:
            yield f"{split}: the digest of its rows is not that of the summary"
    arrays = [(split, "images", (INPUT_HEIGHT, INPUT_WIDTH, 3)) for split in found.cached()]
    if found.is_synthetic:
        arrays += [(split, "masks", (INPUT_HEIGHT, INPUT_WIDTH // 8)) for split in found.cached()]
    for split, what, shape in arrays:
        file = found.data / f"{split}.{what}.npy"
        expected = (len(found.rows[split]), *shape)
        if not file.exists():
            yield f"{file.name}: it is missing"
        elif np.load(file, mmap_mode="r").shape != expected:
            yield f"{file.name}: its shape is {np.load(file, mmap_mode='r').shape}, but {expected} is needed"


def files_differ(found: Set) -> Iterator[str]:
    """Pictures kept as files that are not there or not those that the rows tell of."""
    kept = [row for of in found.rows.values() for row in of if row.path]
    for row, digest in zip(kept, mapped(lambda row: digest_of(found.file(row)), kept, "hashing"), strict=True):
        if digest is None:
            yield f"{row.split}/{row.index}: there is no file {row.path}"
        elif digest != row.sha256:
            yield f"{row.split}/{row.index}: {row.path} has changed; its digest is not that of the row"


def digest_of(file: Path) -> str | None:
    if not file.is_file():
        return None
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def twice(rows: list[Row]) -> Iterator[str]:
    """Pictures with the same bytes."""
    first: dict[str, Row] = {}
    for row in rows:
        before = first.setdefault(row.sha256, row)
        if before is not row:
            yield f"{row.split}/{row.index}: it is the same file as {before.split}/{before.index}"


def lots_in_two_splits(rows: dict[str, list[Row]]) -> Iterator[str]:
    splits = defaultdict(list)
    for split, of in rows.items():
        for lot in sorted({row.lot for row in of if row.lot and split != "robustness"}):
            splits[lot].append(split)
    return (f"lot {lot}: it is in {' and '.join(of)}" for lot, of in splits.items() if len(of) > 1)


def fingerprints_of(found: Set) -> tuple[np.ndarray, list[str]]:
    """Those of all originals, in order; and the pictures that cannot be read."""
    store = Fingerprints(found.data.parent / "fingerprints.bin")
    files = {row.sha256: found.file(row) for row in found.originals() if row.split not in CACHED}
    unfit = store.add(files.items())
    for split in found.cached():
        images = np.load(found.data / f"{split}.images.npy", mmap_mode="r")
        for row, image in zip(found.rows[split], images, strict=True):
            store.records[row.sha256] = fingerprint(row.sha256, np.asarray(image))
    problems = [f"{file}: {problem}" for file, problem in unfit.items()]
    return (np.array([]) if problems else store.of(row.sha256 for row in found.originals())), problems


def near(rows: list[Row], records: np.ndarray, groups: list[int]) -> tuple[list[str], str | None]:
    """Names the near pairs of different groups, and the closest pair of all."""
    pairs, closest = near_pairs(records, np.array(groups))
    # The same file in two places is a finding of its own.
    pairs = [pair for pair in pairs if rows[pair.first].sha256 != rows[pair.second].sha256]
    named = [told(rows, pair) for pair in pairs[:MOST_NAMED]]
    if len(pairs) > MOST_NAMED:
        named.append(f"and {len(pairs) - MOST_NAMED} more pairs that are nearly the same")
    return named, closest and told(rows, closest)


def told(rows: list[Row], pair: Pair) -> str:
    one, other = rows[pair.first], rows[pair.second]
    return (
        f"{one.split}/{one.index} ({one.label}) and {other.split}/{other.index} ({other.label}): thumbnails differ "
        f"by {pair.levels:.2f} levels, hashes by {pair.bits} bits"
    )


def checked(data: Path) -> dict:
    """The report; its `findings` are what the set is refused for."""
    found, findings = load(data)
    if found is None:
        return {"findings": findings, "warnings": []}
    originals = found.originals()
    differences = [*counts_differ(found), *files_differ(found)]
    findings = [*differences, *twice(originals), *twice(found.rows["robustness"]), *lots_in_two_splits(found.rows)]
    report = {
        "kind": found.stated["kind"],
        "digest": found.stated["digest"],
        "n": {split: dict(Counter(row.label for row in of)) for split, of in found.rows.items()},
        "lots": {split: len({row.lot for row in of if row.lot}) for split, of in found.rows.items()},
        "near": {"bits": MOST_BITS, "levels": MOST_LEVELS},
    }
    report["shares"], warnings = audit.shares(found.rows)
    # Pictures are looked at when they are known to be those of the rows.
    if not differences:
        if found.is_synthetic:
            findings += audit.labels_of(found.rows, data)
        records, unfit = fingerprints_of(found)
        findings += unfit
        if not unfit:
            splits = list(found.rows)
            across, report["closest"] = near(originals, records, [splits.index(row.split) for row in originals])
            findings += [f"nearly the same in two splits: {pair}" for pair in across]
            if not found.is_synthetic:
                mixed, _ = near(originals, records, [LABELS.index(row.label) for row in originals])
                warnings += [f"nearly the same under two labels, look at them: {pair}" for pair in mixed]
    return {**report, "findings": findings, "warnings": warnings}


def main() -> None:
    report = checked(DATA)
    write_json(REPORT, report)
    for warning in report["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    for finding in report["findings"]:
        print(finding, file=sys.stderr)
    if report["findings"]:
        print(f"findings: {len(report['findings'])}; the set is refused", file=sys.stderr)
        sys.exit(1)
    print(f"closest pictures of two splits: {report['closest']}")


if __name__ == "__main__":
    main()
