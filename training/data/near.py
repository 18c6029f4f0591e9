"""Pairs of pictures that are nearly the same: saved twice, or two frames or two renderings of one vial.

Two pictures are called nearly the same when few bits of their difference hashes differ and their
thumbnails differ by little. The second bound is what tells apart the vials of one camera, which
look alike. On thumbnails of the renderer's pictures, noise, JPEG quality and other defects on the
same vial make 0.6 levels or less; of 50 million pairs of two vials the closest made 3.9.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

MOST_BITS = 6
MOST_LEVELS = 1.5
# Root mean square above which thumbnails are not compared further: the mean may be within its
# bound and this far above it only where nearly all of the difference is in one place.
MOST_RMS = 6 * MOST_LEVELS
# Pictures by pictures at a time, and pairs at a time: some megabytes.
BLOCK = 1024
CHUNK = 10_000


class Pair(NamedTuple):
    """How two pictures differ, by thumbnail and by hash, and their places in what was searched."""

    levels: float
    bits: int
    first: int
    second: int


def near_pairs(records: np.ndarray, groups: np.ndarray) -> tuple[list[Pair], Pair | None]:
    """The near pairs whose pictures are of different groups, nearest first; and the closest pair of all."""
    near: list[Pair] = []
    closest = None
    # Less their mean: what is left is small, so that f32 is exact enough.
    thumbnails = records["thumbnail"].astype(np.float32)
    thumbnails -= thumbnails.mean(0)
    for first, second, rms in blocks(thumbnails, groups):
        bits = np.bitwise_count(records["hash"][first][:, None] ^ records["hash"][second][None, :])
        candidates = np.argwhere((rms <= MOST_RMS) & (bits <= MOST_BITS))
        nearest = np.array(np.unravel_index(rms.argmin(), rms.shape))
        for places in np.array_split(np.vstack([nearest, candidates]), 1 + len(candidates) // CHUNK):
            one, other = first[places[:, 0]], second[places[:, 1]]
            levels = np.abs(thumbnails[one] - thumbnails[other]).mean(1)
            found = zip(levels.tolist(), bits[tuple(places.T)].tolist(), one.tolist(), other.tolist(), strict=True)
            pairs = [Pair(*it) for it in found]
            closest = min(pairs if closest is None else [closest, *pairs])
            near += [pair for pair in pairs if pair.levels <= MOST_LEVELS and pair.bits <= MOST_BITS]
    # The nearest of a block may be among its candidates, too.
    return sorted(set(near)), closest


def blocks(thumbnails: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Places of pictures of one group, places of pictures of later groups, and how far apart they are."""
    squares = np.einsum("ij,ij->i", thumbnails, thumbnails)
    for group in np.unique(groups):
        members, later = np.flatnonzero(groups == group), np.flatnonzero(groups > group)
        for start, after in product(range(0, len(members), BLOCK), range(0, len(later), BLOCK)):
            first, second = members[start : start + BLOCK], later[after : after + BLOCK]
            inner = thumbnails[first] @ thumbnails[second].T
            square = squares[first][:, None] + squares[second][None, :] - 2 * inner
            yield first, second, np.sqrt(np.maximum(square, 0) / thumbnails.shape[1])
