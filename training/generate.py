"""Renders the synthetic data set into training/.work/data.

    python -m training.generate [--processes 2]

Each picture goes through JPEG and the reference preprocessing once; what is
kept is the u8 input, a coarse map of the defects, and the metadata. The digest
is over the JPEG bytes, in order.
"""

import argparse
import hashlib
import json
import multiprocessing
import time

import cv2
import numpy as np

from training import DATA
from training.vial import GENERATOR_REVISION
from training.vial.dataset import INPUT_SIZE, SEED, SPLITS, input_array, label_of, sample
from training.vial.render import MAP_SIZE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    processes = parser.parse_args().processes
    DATA.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    # Training comes last, so that the small splits can be looked at early.
    with multiprocessing.Pool(processes, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for split in ("validation", "test", "train"):
            started = time.monotonic()
            digest.update(generate(split, pool))
            print(f"{split}: {SPLITS[split].size} pictures in {time.monotonic() - started:.0f} s", flush=True)
    summary = {
        "generator_revision": GENERATOR_REVISION,
        "seed": SEED,
        "digest": f"sha256:{digest.hexdigest()}",
        "splits": {name: split.size for name, split in SPLITS.items()},
    }
    (DATA / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def generate(split: str, pool) -> bytes:
    """Writes one split; returns the digest of its JPEG files."""
    size = SPLITS[split].size
    images = np.empty((size, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    maps = np.empty((size, MAP_SIZE, MAP_SIZE), np.uint8)
    digest = hashlib.sha256()
    tasks = ((split, index) for index in range(size))
    with open(DATA / f"{split}.jsonl", "w") as metadata:
        for index, (image, defect_map, line, jpeg_digest) in enumerate(pool.imap(prepare, tasks, chunksize=16)):
            images[index], maps[index] = image, defect_map
            metadata.write(line + "\n")
            digest.update(jpeg_digest)
    np.save(DATA / f"{split}.images.npy", images)
    np.save(DATA / f"{split}.maps.npy", maps)
    np.save(DATA / f"{split}.labels.npy", np.array([label_of(index) for index in range(size)]))
    return digest.digest()


def prepare(task: tuple[str, int]) -> tuple[np.ndarray, np.ndarray, str, bytes]:
    split, index = task
    picture = sample(split, index)
    jpeg = picture.jpeg()
    line = json.dumps({"split": split, "index": index, **picture.metadata()})
    return input_array(jpeg), picture.defect_map, line, hashlib.sha256(jpeg).digest()


if __name__ == "__main__":
    main()
