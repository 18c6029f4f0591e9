"""Looks at the labels of the set: whether the metadata and the masks bear them out.

And at what comes with them: a confuser, a lamp or a size of vial that is more frequent under one
label would let a network answer without having seen a defect.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import chi2_contingency

from training import LABELS
from training.data.generate import SMALL
from training.params import params
from training.preprocess import INPUT_WIDTH
from training.rows import Row
from training.vial.defects import KINDS, SMALLEST_PX
from training.vial.scene import IMAGE_WIDTH

# A mask is drawn in pixels of the input, each of these many pixels of the picture.
STEP_PX = IMAGE_WIDTH / INPUT_WIDTH
# By how much a mask's extent may differ from the metadata's: thin ends do not show at input size.
TOLERANCE_PX, TOLERANCE_SHARE = 3 * STEP_PX, 0.15
# Of a chi-square test. Some dozen tests are made: by chance one in a thousand runs warns.
SUSPICIOUS = 1e-4


def labels_of(rows: dict[str, list[Row]], data: Path) -> Iterator[str]:
    """What is wrong with the labels of a synthetic set."""
    for split, of in rows.items():
        masks_file = data / f"{split}.masks.npy"
        masks = np.load(masks_file, mmap_mode="r") if masks_file.exists() else [None] * len(of)
        for row, mask in zip(of, masks, strict=True):
            problems = [*defect_problems(row), *(mask_problems(row, mask) if mask is not None else [])]
            yield from (f"{split}/{row.index}: labelled {row.label}, but {problem}" for problem in problems)
    originals = rows["test"]
    for row in rows["robustness"]:
        original = originals[row.variant["of"]]
        if (row.label, row.defects) != (original.label, original.defects):
            yield f"robustness/{row.index}: labelled {row.label}, but {row.variant['of']} of test is {original.label}"


def defect_problems(row: Row) -> Iterator[str]:
    if not row.flawed:
        if row.defects:
            yield f"it has {len(row.defects)} defects"
        return
    if not row.defects:
        yield "it has no defect"
    for defect in row.defects:
        if defect.kind not in KINDS:
            yield f"it has a defect of the unknown kind {defect.kind!r}"
        elif KINDS[defect.kind].label != row.label:
            yield f"it has a {defect.kind}, which is of {KINDS[defect.kind].label}"
        if defect.extent_px < smallest(row.split):
            yield f"its {defect.kind} has {defect.extent_px} px, less than the smallest, {smallest(row.split)}"


def smallest(split: str) -> float:
    """The smallest extent that the renderer may draw in a split."""
    smallest_trained = min(low for low, _ in SMALL.values())
    return {"train": smallest_trained, "sizes": params()["data"]["sizes"]["edges"][0]}.get(split, SMALLEST_PX)


def mask_problems(row: Row, packed: np.ndarray) -> Iterator[str]:
    mask = np.unpackbits(packed, axis=1)
    if not row.flawed:
        if mask.any():
            yield f"its mask has {mask.sum()} pixels"
    elif not mask.any():
        yield "its mask is empty"
    elif len(row.defects) == 1:
        shown, stated = mask_extent(mask), row.extent_px
        if abs(shown - stated) > TOLERANCE_PX + TOLERANCE_SHARE * stated:
            yield f"its mask has an extent of {shown:.0f} px and its {row.defects[0].kind} one of {stated:.0f} px"


def mask_extent(mask: np.ndarray) -> float:
    """The distance of the two points of the mask farthest apart, in px of the picture."""
    corners = cv2.convexHull(cv2.findNonZero(mask))[:, 0].astype(float)
    # From middle to middle of pixels, and on to their edges.
    return STEP_PX * (1 + float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max()))


def shares(rows: dict[str, list[Row]]) -> tuple[dict, list[str]]:
    """How frequent everything is under each label, with the chance of such a difference; and warnings."""
    # Of the splits that have every label in their own mix of vials.
    counted = [row for split in ("train", "validation", "calibration", "test") for row in rows.get(split, [])]
    names = sorted({name for row in counted for name in row.confusers})
    splits = np.array([row.split for row in counted])
    labels = np.array([row.label for row in counted])
    features = {f"confuser {name}": [name in row.confusers for row in counted] for name in names}
    for field in ("lamp", "vial_size"):
        values = [getattr(row, field) for row in counted]
        for value in sorted({value for value in values if value}):
            features[f"{field} {value}"] = [it == value for it in values]
    totals = Counter(row.label for row in counted)
    report, warnings = {}, []
    for name, present in features.items():
        found = Counter(row.label for row, is_present in zip(counted, present, strict=True) if is_present)
        chance = min(chance_in(np.array(present)[splits == split], labels[splits == split]) for split in set(splits))
        by_label = {label: round(found[label] / totals[label], 4) for label in LABELS if totals[label]}
        report[name] = {"share": by_label, "p": chance}
        if chance < SUSPICIOUS:
            warnings.append(f"{name}: its share differs between labels, by chance with p = {chance:.0e}: {by_label}")
    return report, warnings


def chance_in(present: np.ndarray, labels: np.ndarray) -> float:
    """Within one split: splits differ in their mix of labels, and in their lots."""
    there = [present[labels == label] for label in LABELS if (labels == label).any()]
    return chance_of([(int(it.sum()), int((~it).sum())) for it in there])


def chance_of(table: list[tuple[int, int]]) -> float:
    """The p-value of a chi-square test of independence; 1 where there is nothing to compare."""
    counts = np.array(table)
    if len(counts) < 2 or not counts.sum(0).all():
        return 1.0
    return float(chi2_contingency(counts).pvalue)
