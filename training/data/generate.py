"""Renders the synthetic data set into training/.work/data, or takes photographs in its place.

    python -m training.data.generate

What is rendered is a function of params.yaml and GENERATOR_REVISION: with the
pinned libraries the same bytes again. Pictures that a network learns from go
through JPEG and the reference preprocessing once and are kept at input size;
those that the server will be asked about are kept as files. An interrupted run
is taken up where it stopped; a split that other parameters, another revision or
another input size made is rendered anew.
"""

import argparse
import hashlib
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from training import DATA, LABELS, TRAINING
from training.data.variants import write_robustness
from training.params import params
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, input_array
from training.report import load_json, write_json
from training.rows import CACHED, JUDGED, Row, read, write
from training.vial import GENERATOR_REVISION
from training.vial.defects import DRAWABLE, KINDS, Wanted
from training.vial.render import Picture, render
from training.vial.scene import Lot, sample_lot

# Keeps the random numbers of the splits apart, and their lots.
STREAMS = {"train": 0, "validation": 1, "calibration": 2, "test": 3, "sizes": 4, "hidden": 5}
LOTS = {"train": 300, "validation": 40, "calibration": 60, "test": 40, "sizes": 60, "hidden": 80}
LOT_STREAM = 1000
# Where a network fails first, and what it is taught most of: a little below the smallest that it must
# find, up to twice that; cracks and fibres are longer by nature. In px of the picture.
SMALL = {
    "speck": (11.0, 24.0),
    "fibre": (20.0, 40.0),
    "crack": (32.0, 64.0),
    "chip_rim": (11.0, 24.0),
    "chip_shoulder": (11.0, 24.0),
    "chip_heel": (11.0, 24.0),
}
# Of a crack that lies along a dark line: what is shorter would be lost in it.
HIDDEN_CRACK = (32.0, 160.0)
CHUNK = 500


@dataclass(frozen=True)
class Task:
    """Which picture to render."""

    split: str
    index: int
    label: str
    wanted: Wanted | None = None

    @property
    def seed(self) -> tuple[int, int, int]:
        return (params()["data"]["seed"], STREAMS[self.split], self.index)

    def lot(self) -> Lot:
        lots = lots_of(self.split)
        if self.wanted and self.wanted.place == "print":
            lots = [lot for lot in lots if lot.print_lines]
        return lots[np.random.default_rng((*self.seed, LOT_STREAM)).integers(len(lots))]

    def render(self) -> Picture:
        return render(self.seed, self.lot(), self.label, self.wanted)


@cache
def lots_of(split: str) -> list[Lot]:
    stream, seed = STREAMS[split], params()["data"]["seed"]
    return [
        sample_lot(f"L{stream}{number:03d}", np.random.default_rng((seed, LOT_STREAM, stream, number)))
        for number in range(LOTS[split])
    ]


def tasks_of(split: str) -> list[Task]:
    """What a split consists of. Labels are mixed evenly, so that any stretch has them all."""
    if split == "sizes":
        return size_tasks()
    if split == "hidden":
        return hidden_tasks()
    counts = params()["data"][split]
    # Each label spread evenly over 0 to 1, then sorted together.
    places = sorted(((n + 0.5) / counts[label], label) for label in LABELS for n in range(counts[label]))
    tasks = [Task(split, index, label) for index, (_, label) in enumerate(places)]
    return small_ones(tasks) if split == "train" else tasks


def small_ones(tasks: list[Task]) -> list[Task]:
    """Every second of the flawed tasks wants a small defect: of a label's kinds one after the other."""
    seen: Counter[str] = Counter()
    changed = []
    for task in tasks:
        number = seen[task.label]
        seen[task.label] += 1
        kinds = [kind for kind in SMALL if KINDS[kind].label == task.label]
        if kinds and number % 2:
            kind = kinds[number // 2 % len(kinds)]
            task = replace(task, wanted=Wanted(kind, *SMALL[kind]))
        changed.append(task)
    return changed


def size_tasks() -> list[Task]:
    """Vials with one defect: in every bin of sizes the kinds that can be drawn there, in turn."""
    wanted = params()["data"]["sizes"]
    tasks = []
    for low, high in pairwise(wanted["edges"]):
        kinds = [kind for kind, span in DRAWABLE.items() if span[0] <= low and high <= span[1]]
        for number in range(wanted["each"]):
            kind = kinds[number % len(kinds)]
            tasks.append(Task("sizes", len(tasks), KINDS[kind].label, Wanted(kind, low, high)))
    return tasks


def hidden_tasks() -> list[Task]:
    """Vials with one crack along the meniscus or across the print, in turn."""
    counts = params()["data"]["hidden"]
    places = sorted(((n + 0.5) / count, place) for place, count in counts.items() for n in range(count))
    wanted = (Wanted("crack", *HIDDEN_CRACK, place) for _, place in places)
    return [Task("hidden", index, KINDS["crack"].label, it) for index, it in enumerate(wanted)]


def prepare(task: Task) -> tuple[Row, bytes, np.ndarray | None, np.ndarray | None]:
    """The row, the JPEG, and for cached splits the input and the packed mask."""
    picture = task.render()
    jpeg = picture.jpeg()
    is_cached = task.split in CACHED
    row = Row(
        split=task.split,
        index=task.index,
        label=task.label,
        sha256=hashlib.sha256(jpeg).hexdigest(),
        path=None if is_cached else f"{task.split}/{task.index:06d}.jpg",
        lot=picture.scene.lot.name,
        fill_level=round(picture.scene.vial.fill_level, 4),
        lamp=picture.scene.lot.lamp,
        vial_size=picture.scene.lot.vial_size,
        confusers=picture.confusers,
        defects=picture.defects,
    )
    mask = np.packbits(picture.mask, axis=1)
    return row, jpeg, input_array(jpeg) if is_cached else None, mask


def made_from(split: str) -> dict:
    """Everything that the pictures of a split follow from, but the libraries."""
    settings = params()["data"]
    return {
        "generator_revision": GENERATOR_REVISION,
        "seed": settings["seed"],
        "pictures": settings[split],
        "input": [INPUT_HEIGHT, INPUT_WIDTH],
    }


def clear_unless_made_from(wanted: dict, split: str, data: Path) -> None:
    """Removes a split, or what there is of it, that was made from something else, such as photographs."""
    statement = data / f"{split}.made_from.json"
    if load_json(statement) == wanted:
        return
    for path in data.glob(f"{split}.*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(data / split, ignore_errors=True)
    write_json(statement, wanted)


def generate(split: str, pool: ProcessPoolExecutor, data: Path = DATA) -> None:
    """Writes one split, chunk by chunk; a chunk that is there is not rendered again."""
    clear_unless_made_from(made_from(split), split, data)
    if (data / f"{split}.jsonl").exists():
        return
    tasks = tasks_of(split)
    parts = data / f"{split}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    (data / split).mkdir(exist_ok=True)
    bar = tqdm(total=len(tasks), desc=split, unit="img", mininterval=5)
    for start in range(0, len(tasks), CHUNK):
        chunk = tasks[start : start + CHUNK]
        name = f"{start:06d}"
        if not (parts / f"{name}.jsonl").exists():
            rows, images, masks = [], [], []
            for row, jpeg, image, mask in pool.map(prepare, chunk, chunksize=8):
                rows.append(row)
                masks.append(mask)
                if image is None:
                    (data / row.path).write_bytes(jpeg)
                else:
                    images.append(image)
            np.save(parts / f"{name}.masks.npy", np.stack(masks))
            if images:
                np.save(parts / f"{name}.images.npy", np.stack(images))
            # Last: its presence says that the chunk is whole.
            write(name, rows, parts)
        bar.update(len(chunk))
    bar.close()
    join(split, parts, len(tasks), data)


def join(split: str, parts: Path, count: int, data: Path) -> None:
    """Puts the chunks of a split together and removes them."""
    names = [f"{start:06d}" for start in range(0, count, CHUNK)]
    shapes = {"masks": (INPUT_HEIGHT, INPUT_WIDTH // 8)}
    if split in CACHED:
        shapes["images"] = (INPUT_HEIGHT, INPUT_WIDTH, 3)
    for what, shape in shapes.items():
        target = data / f"{split}.{what}.npy"
        whole = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=(count, *shape))
        for number, name in enumerate(names):
            whole[number * CHUNK : (number + 1) * CHUNK] = np.load(parts / f"{name}.{what}.npy")
        whole.flush()
    write(split, chunk_rows(names, parts), data)
    for path in parts.iterdir():
        path.unlink()
    parts.rmdir()
    if split in CACHED:
        (data / split).rmdir()


def chunk_rows(names: list[str], parts: Path) -> Iterator[Row]:
    for name in names:
        yield from read(name, parts)


def summary(data: Path = DATA) -> dict:
    """What the set is: counts and digests over the pictures' bytes, in order."""
    whole = hashlib.sha256()
    splits = {}
    for split in (*CACHED, *JUDGED):
        if not (data / f"{split}.jsonl").exists():
            continue
        rows = read(split, data)
        digest = digest_of(rows)
        whole.update(bytes.fromhex(digest.removeprefix("sha256:")))
        splits[split] = {"n": dict(Counter(row.label for row in rows)), "digest": digest}
    return {
        "kind": "synthetic",
        "generator_revision": GENERATOR_REVISION,
        "seed": params()["data"]["seed"],
        "digest": f"sha256:{whole.hexdigest()}",
        "splits": splits,
    }


def digest_of(rows: list[Row]) -> str:
    """Over the bytes of a split's pictures, in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(bytes.fromhex(row.sha256))
    return f"sha256:{digest.hexdigest()}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=STREAMS, help="render one split and no more")
    only = parser.parse_args(arguments).only
    settings = params()["data"]
    if settings["source"]:
        from training.data.intake import run

        run(TRAINING.parent / settings["source"], DATA)
        return
    DATA.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(
        settings["processes"], mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    )
    with workers as pool:
        for split in [only] if only else STREAMS:
            generate(split, pool)
    if only:
        return
    write_robustness(read("test"), DATA, settings["robustness"]["each"])
    write_json(DATA / "summary.json", summary())


if __name__ == "__main__":
    main()
