"""What is kept of a picture to find it again: digests, a difference hash and a thumbnail.

Fingerprints of files are appended to a file as they are made, by the digest of the picture's
bytes, so that no picture is decoded twice, by whichever stage, and an interrupted run goes on
where it stopped.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from training.data.parallel import mapped
from training.data.strict import Unfit, require_fit
from training.preprocess import input_array

THUMBNAIL = (16, 32)
RECORD = np.dtype(
    [
        ("sha256", np.uint8, 32),
        # Of the picture at input size: the same for one that was saved anew without loss.
        ("pixels", np.uint8, 32),
        ("hash", np.uint64),
        # Grey levels, row by row.
        ("thumbnail", np.uint8, THUMBNAIL[0] * THUMBNAIL[1]),
    ]
)


def fingerprint(sha256: str, image: np.ndarray) -> np.ndarray:
    """The record, a scalar, of a picture at input size."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    record = np.zeros((), RECORD)
    record["sha256"] = digest_bytes(sha256)
    record["pixels"] = digest_bytes(hashlib.sha256(image).hexdigest())
    record["hash"] = difference_hash(grey)
    record["thumbnail"] = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).ravel()
    return record


def digest_bytes(sha256: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(sha256), np.uint8)


def difference_hash(grey: np.ndarray) -> np.uint64:
    """64 bits: where in a grid of 8 x 8 it gets lighter to the right (Krawetz, 2013, "dHash")."""
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)[0]


class Fingerprints:
    """Fingerprints by the digest of a file's bytes, kept in `file`."""

    def __init__(self, file: Path):
        self.file = file
        content = file.read_bytes() if file.exists() else b""
        # An interrupted run may have left part of a record at the end.
        whole = len(content) // RECORD.itemsize * RECORD.itemsize
        if whole < len(content):
            file.write_bytes(content[:whole])
        records = np.frombuffer(content[:whole], RECORD)
        self.records = {bytes(record["sha256"]).hex(): record for record in records}

    def add(self, pictures: Iterable[tuple[str, Path]]) -> dict[Path, str]:
        """Reads the pictures (digest and file) that are not known; returns what is wrong with which."""
        unknown = list({sha256: file for sha256, file in pictures if sha256 not in self.records}.items())
        problems: dict[Path, str] = {}
        if not unknown:
            return problems
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "ab") as kept:
            for (sha256, file), record in zip(unknown, mapped(examine, unknown, "reading"), strict=True):
                if isinstance(record, Unfit):
                    problems[file] = str(record)
                else:
                    self.records[sha256] = record
                    kept.write(record.tobytes())
        return problems

    def of(self, digests: Iterable[str]) -> np.ndarray:
        return np.array([self.records[sha256] for sha256 in digests], RECORD)


def examine(picture: tuple[str, Path]) -> np.ndarray | Unfit:
    sha256, file = picture
    content = file.read_bytes()
    try:
        require_fit(content)
        return fingerprint(sha256, input_array(content))
    except Unfit as unfit:
        return unfit
