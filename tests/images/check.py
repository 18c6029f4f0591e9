"""Decodes mutated images that were accepted and compares tensors: check.py ACCEPTED SPEC_JSON.

ACCEPTED holds records of two blobs, the image and our pixels, each behind its length as u32 LE.
"""

import json
import struct
import sys
import warnings
from pathlib import Path

import numpy as np

from reference import tensor

MAX_DIFFERENCE = 1
MAX_MEAN = 0.15


def blobs(data):
    at = 0
    while at < len(data):
        (n,) = struct.unpack_from("<I", data, at)
        yield data[at + 4 : at + 4 + n]
        at += 4 + n


warnings.simplefilter("ignore")  # Pillow warns of broken EXIF; that is not a refusal.
spec = json.loads(sys.argv[2])
records = list(blobs(Path(sys.argv[1]).read_bytes()))
bad = 0
for n, (image, pixels) in enumerate(zip(records[::2], records[1::2])):
    try:
        expected = tensor(image, spec).ravel().astype(int)
    except Exception as error:  # noqa: BLE001 (any refusal is a finding)
        problem = f"Pillow refuses it: {error!r}"
    else:
        difference = np.abs(expected - np.frombuffer(pixels, np.uint8).astype(int))
        if difference.max() <= MAX_DIFFERENCE and difference.mean() <= MAX_MEAN:
            continue
        problem = f"differs by up to {difference.max()}, mean {difference.mean():.3f}"
    bad += 1
    Path(f"{sys.argv[1]}.{n}.bad").write_bytes(image)
    print(f"accepted image {n} ({len(image)} bytes): {problem}")
print(f"{len(records) // 2} accepted images checked, {bad} bad")
sys.exit(bad > 0)
