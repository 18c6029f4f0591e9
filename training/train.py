"""Trains the classifier on the rendered set, on CPU, in phases.

    python -m training.train [--from-phase N]

The smallest defect is 3 px wide in the input, far too little for an image
label alone to be learnt from quickly. So each cell of the class activation map
is taught as well, from the renderer's map of the defects; and the first phases
see crops, which are cheap, the last whole pictures, as they are served.

A phase begins with the averaged weights of the one before, and with a fresh
optimiser and cell head, so that training can be taken up at any phase.
"""

import argparse
import copy
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training import CHECKPOINT, DATA, WORK
from training.model import FULL_CELLS, VialNet, normalise
from training.vial import LABELS
from training.vial.dataset import INPUT_SIZE
from training.vial.render import MAP_SIZE

SEED = 11
# Input pixels to a pixel of the defect map, map pixels to a cell of the 7x7 map.
MAP_STRIDE = INPUT_SIZE // MAP_SIZE
CELL = MAP_SIZE // 7
IGNORED = -1


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    `horizon` is the length of the cosine; a phase may stop short of it. Chips at
    the rim, the defects missed most on validation, come `rim_chips` times an epoch.
    """

    side: int
    batch: int
    steps: int
    horizon: int
    peak_rate: float
    final_rate: float
    cell_loss: float
    rim_chips: int


@dataclass(frozen=True)
class Recipe:
    architecture: str = "efficientnet_b0, from scratch"
    optimiser: str = "AdamW"
    weight_decay: float = 0.02
    warm_up_steps: int = 60
    average_decay: float = 0.99
    flawed_cell_weight: float = 4.0
    phases: tuple[Phase, ...] = (
        Phase(128, batch=32, steps=500, horizon=1300, peak_rate=2e-3, final_rate=8e-4, cell_loss=1.0, rim_chips=1),
        Phase(128, batch=32, steps=250, horizon=250, peak_rate=1.4e-3, final_rate=4e-4, cell_loss=1.0, rim_chips=1),
        Phase(224, batch=16, steps=400, horizon=400, peak_rate=6e-4, final_rate=1e-5, cell_loss=0.5, rim_chips=3),
    )


class CellHead(nn.Module):
    """Turns the map into scores a cell; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.tensor([2.0, -1.0, -1.0]))

    def forward(self, cam: Tensor) -> Tensor:
        return cam * self.log_scale.exp() + self.bias.view(1, -1, 1, 1)


@dataclass
class Split:
    name: str
    images: np.ndarray
    maps: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, name: str) -> "Split":
        parts = (np.load(DATA / f"{name}.{part}.npy", mmap_mode="r") for part in ("images", "maps", "labels"))
        return cls(name, *parts)

    def metadata(self) -> list[dict]:
        with open(DATA / f"{self.name}.jsonl") as lines:
            return [json.loads(line) for line in lines]

    def has_kind(self, kind: str) -> np.ndarray:
        """Whether each picture shows a defect of this kind."""
        return np.array([any(d["kind"] == kind for d in row["defects"]) for row in self.metadata()])


class Batches:
    """Random crops, flips and light changes; whole pictures where the side is the input's."""

    def __init__(self, split: Split, rim_chips: int, rng: np.random.Generator) -> None:
        self.split = split
        self.rng = rng
        repeats = np.where(split.has_kind("chip_rim"), rim_chips, 1)
        self.epoch = np.repeat(np.arange(len(repeats)), repeats)
        self.order = np.empty(0, int)

    def next_indices(self, count: int) -> np.ndarray:
        while len(self.order) < count:
            self.order = np.append(self.order, self.rng.permutation(self.epoch))
        taken, self.order = self.order[:count], self.order[count:]
        return taken

    def draw(self, phase: Phase) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised images, image labels, and cell labels [N, side / 32, side / 32]."""
        images = np.empty((phase.batch, phase.side, phase.side, 3), np.uint8)
        maps = np.empty((phase.batch, phase.side // MAP_STRIDE, phase.side // MAP_STRIDE), np.uint8)
        indices = self.next_indices(phase.batch)
        for row, index in enumerate(indices):
            images[row], maps[row] = self.crop(index, phase.side)
        flawed = torch.from_numpy(maps).flatten(1).any(1)
        labels = torch.from_numpy(self.split.labels[indices]) * flawed
        return self.relit(normalise(torch.from_numpy(images))), labels, cell_labels(torch.from_numpy(maps), labels)

    def crop(self, index: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        defect_map = self.split.maps[index]
        span = side // MAP_STRIDE
        top, left = self.rng.integers(0, MAP_SIZE - span + 1, 2)
        rows, columns = np.nonzero(defect_map)
        if len(rows) and self.rng.uniform() < 0.85:
            aim = self.rng.integers(len(rows))
            top = self.start_around(rows[aim], span)
            left = self.start_around(columns[aim], span)
        y, x = top * MAP_STRIDE, left * MAP_STRIDE
        image = self.split.images[index, y : y + side, x : x + side]
        defect_map = defect_map[top : top + span, left : left + span]
        if self.rng.uniform() < 0.5:
            return image[:, ::-1], defect_map[:, ::-1]
        return image, defect_map

    def start_around(self, place: int, span: int) -> int:
        """A random start of a window of `span` that has `place` in it."""
        return int(self.rng.integers(max(place - span + 1, 0), min(place, MAP_SIZE - span) + 1))

    def relit(self, images: Tensor) -> Tensor:
        count = len(images)
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, (count, 1, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(self.rng.uniform(-0.2, 0.2, (count, 1, 1, 1)).astype(np.float32))
        return images * gain + offset


def cell_labels(maps: Tensor, labels: Tensor) -> Tensor:
    """The label of each cell; a cell that only comes close to a defect is IGNORED."""
    maps = maps.float().unsqueeze(1)
    touched = functional.max_pool2d(maps, CELL).squeeze(1) > 0
    close = functional.max_pool2d(functional.max_pool2d(maps, 5, 1, 2), CELL).squeeze(1) > 0
    cells = labels.view(-1, 1, 1) * touched
    return torch.where(close & ~touched, IGNORED, cells)


def rate_at(step: int, phase: Phase, warm_up: int) -> float:
    """Cosine from the phase's peak to its final rate, after a linear warm-up."""
    cosine = (1 + math.cos(math.pi * step / phase.horizon)) / 2
    rate = phase.final_rate + (phase.peak_rate - phase.final_rate) * cosine
    return rate * min(1.0, (step + 1) / warm_up)


@torch.inference_mode()
def predict(model: VialNet, images: np.ndarray) -> Tensor:
    model.eval()
    chunks = [images[start : start + 32] for start in range(0, len(images), 32)]
    return torch.cat([model(normalise(torch.from_numpy(chunk.copy()))).logits for chunk in chunks])


@torch.no_grad()
def settle_statistics(model: VialNet, split: Split, count: int = 480) -> None:
    """Measures the batch-norm statistics anew, for the averaged weights on whole pictures."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        # None: a plain average over everything seen.
        norm.momentum = None
    model.train()
    for start in range(0, count, 32):
        model(normalise(torch.from_numpy(split.images[start : start + 32].copy())))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)


def run_phase(number: int, recipe: Recipe, model: VialNet, train: Split) -> VialNet:
    """Trains `model` in place; returns the average of its weights, statistics settled."""
    phase = recipe.phases[number]
    batches = Batches(train, phase.rim_chips, np.random.default_rng(SEED + number))
    cell_head = CellHead()
    average = copy.deepcopy(model)
    parameters = [*model.parameters(), *cell_head.parameters()]
    optimiser = torch.optim.AdamW(parameters, weight_decay=recipe.weight_decay)
    cell_weights = torch.tensor([1.0, recipe.flawed_cell_weight, recipe.flawed_cell_weight])
    started = time.monotonic()
    model.train()
    for step in range(phase.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, phase, recipe.warm_up_steps)
        images, labels, cells = batches.draw(phase)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.features(images)
        cam = functional.conv2d(features.float(), model.weight)
        # A crop counts as a whole picture whose other cells are silent.
        logits = cam.sum((2, 3)) / FULL_CELLS + model.bias
        image_loss = functional.cross_entropy(logits, labels)
        cell_loss = functional.cross_entropy(cell_head(cam), cells, cell_weights, ignore_index=IGNORED)
        loss = image_loss + phase.cell_loss * cell_loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        follow(average, model, min(recipe.average_decay, (step + 1) / (step + 10)))
        if step % 50 == 0:
            right = (logits.argmax(1) == labels).float().mean().item()
            print(
                f"phase {number} step {step} {time.monotonic() - started:.0f} s: image loss {image_loss.item():.3f}, "
                f"cell loss {cell_loss.item():.3f}, accuracy {right:.2f}",
                flush=True,
            )
    settle_statistics(average, train)
    return average


def checkpoint_of(number: int) -> Path:
    return WORK / f"phase-{number}.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from-phase", type=int, default=0)
    first = parser.parse_args().from_phase
    torch.manual_seed(SEED)
    recipe = Recipe()
    train, validation = Split.load("train"), Split.load("validation")
    model = VialNet()
    seconds = 0
    if first > 0:
        stored = torch.load(checkpoint_of(first - 1), weights_only=True)
        model.load_state_dict(stored["model"])
        seconds = json.loads(stored["recipe"])["seconds"]
    for number in range(first, len(recipe.phases)):
        started = time.monotonic()
        average = run_phase(number, recipe, model.to(memory_format=torch.channels_last), train)
        seconds += round(time.monotonic() - started)
        training = {"seed": SEED, "seconds": seconds, "labels": list(LABELS), **asdict(recipe)}
        torch.save({"model": average.state_dict(), "recipe": json.dumps(training)}, checkpoint_of(number))
        right = predict(average, validation.images).argmax(1).numpy() == validation.labels
        print(f"phase {number}: validation accuracy {right.mean():.4f} after {seconds} s", flush=True)
        # The statistics were averaged for the checkpoint; training follows them again.
        model = VialNet()
        model.load_state_dict(average.state_dict())
    shutil.copyfile(checkpoint_of(len(recipe.phases) - 1), CHECKPOINT)


if __name__ == "__main__":
    main()
