"""What a network is shown: crops and whole pictures, with the lamp and the camera varied.

Which pictures the steps show, and how, follows from the seed, the step, and the
losses of what was shown before; a run keeps those, so that one that was
interrupted goes on as if it had not been.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training import DATA, LABELS
from training.network.model import CELL
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH
from training.rows import read

IGNORED = -1
# A cell with fewer defect pixels than this, in a picture with cells that have more, is not taught.
CLEAR_PIXELS = 6
# A crop that shows less than this share of the picture's defect pixels, but some, has no label.
CLEAR_SHARE = 0.3


@dataclass
class Split:
    """Pictures u8 [N, H, W, 3], labels [N], and where the defects are, packed; None: not known."""

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None

    @classmethod
    def load(cls, *names: str) -> "Split":
        """One split, or several as one; of photographs, those that there are."""
        there = present(names)
        labels = np.array([LABELS.index(row.label) for name in there for row in read(name)])
        images, masks = (joined([DATA / f"{name}.{what}.npy" for name in there]) for what in ("images", "masks"))
        return cls(images, labels, masks)

    def mask(self, index: int) -> np.ndarray:
        """u8 [H, W], 1 where a defect is."""
        return np.unpackbits(self.masks[index], axis=1)


def present(names: Iterable[str]) -> list[str]:
    return [name for name in names if (DATA / f"{name}.jsonl").exists()]


def digest_of(names: Iterable[str]) -> str:
    """Over what can be learnt from these splits: pictures, labels, input size, whether there are masks."""
    digest = hashlib.sha256(repr((INPUT_HEIGHT, INPUT_WIDTH)).encode())
    for name in present(names):
        digest.update(repr((name, (DATA / f"{name}.masks.npy").exists())).encode())
        for row in read(name):
            digest.update(f"{row.sha256} {row.label}\n".encode())
    return digest.hexdigest()


def joined(files: list[Path]) -> np.ndarray | None:
    """Mapped from its file if it is one, else in memory; None where one is missing."""
    if not all(file.exists() for file in files):
        return None
    arrays = [np.load(file, mmap_mode="r") for file in files]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass
class Batch:
    # f32 0 to 255, [N, H, W, 3].
    images: Tensor
    # [N], IGNORED where the crop leaves it open.
    labels: Tensor
    # [N, H / CELL, W / CELL], IGNORED likewise; None where masks are not known.
    cells: Tensor | None


def draw(split: Split, indices: np.ndarray, side: int | None, rng: np.random.Generator) -> Batch:
    """Shows the pictures `indices`: a crop of `side` each, or the whole where `side` is None."""
    images, masks, shares = [], [], []
    for index in indices:
        mask = None if split.masks is None else split.mask(index)
        image, shown = view(split.images[index], mask, side, rng)
        images.append(relit(image, rng))
        masks.append(shown)
        shares.append(1.0 if mask is None or not mask.any() else shown.sum() / mask.sum())
    labels = torch.from_numpy(split.labels[indices])
    shares = torch.tensor(shares)
    labels = torch.where(shares == 0, 0, torch.where(shares < CLEAR_SHARE, IGNORED, labels))
    stacked = torch.from_numpy(np.stack(images))
    if split.masks is None:
        return Batch(stacked, labels, None)
    truth = torch.from_numpy(split.labels[indices])
    return Batch(stacked, labels, cell_labels(torch.from_numpy(np.stack(masks)), truth))


def view(
    image: np.ndarray, mask: np.ndarray | None, side: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """A window, mirrored half of the time, and half of the time turned and scaled a little."""
    height, width = (INPUT_HEIGHT, INPUT_WIDTH) if side is None else (side, side)
    top, left = (0, 0) if side is None else corner(mask, side, rng)
    flip = rng.uniform() < 0.5
    turned = rng.uniform() < 0.5
    if not turned:
        window = (slice(top, top + height), slice(left, left + width))
        image, mask = image[window], None if mask is None else mask[window]
    else:
        matrix = cv2.getRotationMatrix2D(
            (left + width / 2, top + height / 2), rng.uniform(-4, 4), rng.uniform(0.93, 1.07)
        )
        matrix[:, 2] -= (left, top)
        size = (width, height)
        image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = None if mask is None else cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST)
    if flip:
        image, mask = image[:, ::-1], None if mask is None else mask[:, ::-1]
    return image, mask


def corner(mask: np.ndarray | None, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Where a crop begins: mostly so that it shows a defect, if there is one."""
    limits = (INPUT_HEIGHT - side, INPUT_WIDTH - side)
    if mask is not None and rng.uniform() < 0.8 and len(flawed := np.argwhere(mask)):
        aim = flawed[rng.integers(len(flawed))]
        starts = [rng.integers(max(p - side + 9, 0), max(p - 8, 0) + 1) for p in aim]
    else:
        starts = [rng.integers(0, limit + 1) for limit in limits]
    top, left = (int(min(start, limit)) for start, limit in zip(starts, limits, strict=True))
    return top, left


def relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another lamp, another focus, another sensor: f32, 0 to 255."""
    lit = image.astype(np.float32)
    if rng.uniform() < 0.25:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.3, 0.9))
    warmth = rng.uniform(-0.03, 0.03)
    lit *= np.float32(rng.uniform(0.8, 1.2)) * np.array([1 + warmth, 1, 1 - warmth], np.float32)
    # The panel is not equally bright from side to side or from top to bottom.
    down = np.linspace(-1, 1, len(lit), dtype=np.float32) * np.float32(rng.uniform(-0.06, 0.06))
    across = np.linspace(-1, 1, lit.shape[1], dtype=np.float32) * np.float32(rng.uniform(-0.06, 0.06))
    lit *= (1 + down[:, None] + across[None, :])[..., None]
    if rng.uniform() < 0.3:
        lit += rng.standard_normal(lit.shape, np.float32) * np.float32(rng.uniform(0.5, 3.0))
    return np.clip(lit, 0, 255, out=lit)


def cell_labels(masks: Tensor, labels: Tensor) -> Tensor:
    """The label of each cell; one that shows little of a defect, or comes close to one, is IGNORED."""
    masks = masks.float().unsqueeze(1)
    pixels = functional.avg_pool2d(masks, CELL).squeeze(1) * CELL**2
    close = functional.max_pool2d(functional.max_pool2d(masks, 9, 1, 4), CELL).squeeze(1) > 0
    most = pixels.flatten(1).max(1).values.view(-1, 1, 1)
    clear = (pixels > 0) & ((pixels >= CLEAR_PIXELS) | (pixels == most))
    return torch.where(clear, labels.view(-1, 1, 1), torch.where(close, IGNORED, 0))


def order(weights: np.ndarray, count: int, seed: tuple[int, ...]) -> np.ndarray:
    """`count` indices: half of them every picture in turn, half as often as `weights` say."""
    rng = np.random.default_rng(seed)
    rounds = -(-count // (2 * len(weights)))
    in_turn = np.concatenate([rng.permutation(len(weights)) for _ in range(rounds)])[: -(-count // 2)]
    drawn = rng.choice(len(weights), count // 2, p=weights / weights.sum())
    mixed = np.empty(count, int)
    mixed[::2], mixed[1::2] = in_turn, drawn
    return mixed
