"""reference.json: what a version saw, for checks of drift and of out-of-distribution input to come.

No server reads it yet. Everything is of the calibration split, its labels weighted to the mix of the
test split, since that is the mix a line is expected to have. Numbers have six significant digits.

| Field | What it is |
|---|---|
| `schema` | "linesight.reference/1" |
| `split`, `data_digest` | the pictures' split and its digest |
| `n`, `weights` | pictures looked at, and the weight of one, by label; weighted counts are in the test mix |
| `picture_sizes` | `[width, height, share]` of the upright pictures, px, at most 20, most frequent first |
| `input.mean`, `input.std` | of the pixels at input size, 0 to 255, one number a channel: R, G, B |
| `input.brightness` | feature: mean luma (ITU-R 601) of the input, 0 to 255 |
| `input.sharpness` | feature: variance of the Laplacian (3x3, four neighbours) of that luma, levels squared |
| `scores.log_odds` | feature: ln(score of good / sum of the other scores), calibrated |
| `scores.by_label` | shares of 20 equal bins over 0 to 1 of each label's calibrated score |
| `predicted`, `decisions` | shares of the likeliest label, of approve, reject and undecided |
| `embedding.output`, `embedding.size` | the model's output, and its length F |
| `embedding.means` | by true label, F numbers each |
| `embedding.directions` | K orthonormal rows of F, principal directions of the covariance about those means |
| `embedding.variances` | K variances along them |
| `embedding.residual_variance` | of each of the other F - K directions, taken to be equal |
| `embedding.distance` | feature: see below |

A *feature* has `mean`, `std`, `quantiles` (by per cent), and for a population stability index `edges`
(inner ones: bin 0 is below the first, the last bin from the last on) and the `shares` of these bins.

The distance of an embedding x is the least over the labels' means m, with r = x - m and p the
projections of r on the directions, of

    sqrt((sum(p**2 / variances) + (|r|**2 - |p|**2) / residual_variance) / F)

so about 1 where all is as usual. It is the Mahalanobis distance to the nearest class with one covariance
for all (K. Lee et al.: A simple unified framework for detecting out-of-distribution samples and
adversarial attacks, NeurIPS 2018, arXiv 1807.03888), that covariance shrunk to its principal part and
one variance for the rest (M. Tipping, C. Bishop: Probabilistic principal component analysis, 1999). Its
figures are of pictures that the covariance was not fitted to: each half by the fit of the other.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tqdm import tqdm

from training import CANDIDATES, LABELS
from training.judge.decision import log_odds, logits_of
from training.judge.served import Staged, ask
from training.package.pixels import declared, input_array
from training.preprocess import normalised
from training.report import read_json
from training.rows import Row, read

SCHEMA = "linesight.reference/1"
# Enough for a quantile of 99.9 %, and done within two minutes on two cores.
MOST_PICTURES = 3000
PRINCIPAL = 32
BATCH = 16
QUANTILES = (0.1, 1, 5, 25, 50, 75, 90, 95, 99, 99.9)
STABILITY_BINS = 10
SCORE_BINS = 20
MOST_SIZES = 20


@dataclass(frozen=True)
class Seen:
    """One entry or row a picture."""

    sizes: list[tuple[int, int]]
    # f64 [N, 3]: of the pixels of a picture, and of their squares.
    means: np.ndarray
    squares: np.ndarray
    brightness: np.ndarray
    sharpness: np.ndarray
    embeddings: np.ndarray


@dataclass(frozen=True)
class Normal:
    """Gaussian clouds of one shape, one a label."""

    means: dict[str, np.ndarray]
    directions: np.ndarray
    variances: np.ndarray
    residual_variance: float

    @classmethod
    def fit(cls, embeddings: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> "Normal":
        means = {label: embeddings[labels == label].mean(0) for label in LABELS if (labels == label).any()}
        apart = embeddings - np.array([means[label] for label in labels])
        covariance = (apart * weights[:, None]).T @ apart / weights.sum()
        variances, directions = np.linalg.eigh(covariance)
        kept = min(PRINCIPAL, len(variances) - 1)
        rest = max(float(variances[:-kept].mean()), np.finfo(np.float32).eps)
        return cls(means, directions[:, ::-1].T[:kept], np.maximum(variances[::-1][:kept], rest), rest)

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """To the nearest label."""
        squares = []
        for mean in self.means.values():
            apart = embeddings - mean
            along = apart @ self.directions.T
            beside = np.maximum((apart**2).sum(1) - (along**2).sum(1), 0)
            squares.append((along**2 / self.variances).sum(1) + beside / self.residual_variance)
        return np.sqrt(np.min(squares, axis=0) / embeddings.shape[1])


def make(version: Staged, data: Path, candidates: Path = CANDIDATES) -> dict:
    """The content of reference.json for a staged version, with everything calibrated."""
    summary = read_json(data / "summary.json", "python -m training.data.generate")
    rows = read("calibration", data)
    # Evenly over the split, which has its labels mixed.
    rows = rows[:: -(-len(rows) // MOST_PICTURES)]
    answers = ask(version, rows, candidates / version.repository.name / "answers", "calibration", data)
    judged = [(row, answer) for row, answer in zip(rows, answers, strict=True) if answer.label_scores]
    labels = np.array([row.label for row, _ in judged])
    scores = np.array([answer.label_scores for _, answer in judged])
    decisions = [answer.decision for _, answer in judged]
    by_label = mix_weights(Counter(labels.tolist()), summary["splits"]["test"]["n"])
    weights = np.array([by_label[label] for label in labels])
    seen = look([row for row, _ in judged], version.folder, data)
    return {
        "schema": SCHEMA,
        "synthetic": summary["kind"] == "synthetic",
        "split": "calibration",
        "data_digest": summary["splits"]["calibration"]["digest"],
        "n": dict(Counter(labels.tolist())),
        "weights": {label: rounded(weight) for label, weight in by_label.items()},
        "picture_sizes": [[*size, share] for size, share in shares(seen.sizes, weights).items()][:MOST_SIZES],
        "input": {
            **pixel_statistics(seen, weights),
            "brightness": feature(seen.brightness, weights),
            "sharpness": feature(seen.sharpness, weights),
        },
        "scores": {
            "log_odds": feature(log_odds(logits_of(scores)), weights),
            "by_label": {label: histogram(scores[:, it], weights) for it, label in enumerate(LABELS)},
        },
        "predicted": shares([LABELS[it] for it in scores.argmax(1)], weights),
        "decisions": shares(decisions, weights),
        "embedding": embedding(seen.embeddings, labels, weights),
    }


def mix_weights(have: Counter, wanted: dict[str, int]) -> dict[str, float]:
    """The weight of one picture of each label, so that the labels are in the wanted mix; 1 on average."""
    total, all_wanted = sum(have.values()), sum(wanted[label] for label in have)
    return {label: wanted[label] / all_wanted * total / count for label, count in have.items()}


def look(rows: list[Row], package: Path, data: Path) -> Seen:
    runtime = onnxruntime.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    decode = declared(package)
    sizes, statistics, embeddings = [], [], []
    with tqdm(total=len(rows), desc="reference", unit="img", disable=None) as bar:
        for start in range(0, len(rows), BATCH):
            contents = [(data / row.path).read_bytes() for row in rows[start : start + BATCH]]
            sizes += [ImageOps.exif_transpose(Image.open(data / row.path)).size for row in rows[start : start + BATCH]]
            pixels = np.stack([input_array(content, decode) for content in contents])
            statistics += [statistics_of(it) for it in pixels]
            embeddings.append(runtime.run(["embedding"], {"image": normalised(pixels)})[0])
            bar.update(len(contents))
    means, squares, brightness, sharpness = (np.array(it) for it in zip(*statistics, strict=True))
    return Seen(sizes, means, squares, brightness, sharpness, np.concatenate(embeddings).astype(np.float64))


def statistics_of(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    values = pixels.reshape(-1, 3).astype(np.float64)
    return values.mean(0), (values**2).mean(0), float(luma.mean()), float(cv2.Laplacian(luma, cv2.CV_64F).var())


def pixel_statistics(seen: Seen, weights: np.ndarray) -> dict:
    mean, square = (np.average(it, axis=0, weights=weights) for it in (seen.means, seen.squares))
    return {"mean": rounded(mean), "std": rounded(np.sqrt(square - mean**2))}


def embedding(embeddings: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict:
    halves = np.arange(len(labels)) % 2
    distances = np.empty(len(labels))
    for half in (0, 1):
        fitted, other = halves == half, halves != half
        normal = Normal.fit(embeddings[fitted], labels[fitted], weights[fitted])
        distances[other] = normal.distance(embeddings[other])
    normal = Normal.fit(embeddings, labels, weights)
    return {
        "output": "embedding",
        "size": embeddings.shape[1],
        "means": {label: rounded(mean) for label, mean in normal.means.items()},
        "directions": rounded(normal.directions),
        "variances": rounded(normal.variances),
        "residual_variance": rounded(normal.residual_variance),
        "distance": feature(distances, weights),
    }


def feature(values: np.ndarray, weights: np.ndarray) -> dict:
    mean = np.average(values, weights=weights)
    # Edges that fall together would make empty bins.
    edges = np.unique(quantiles(values, weights, np.linspace(0, 1, STABILITY_BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values, "right"), weights, len(edges) + 1)
    return {
        "mean": rounded(mean),
        "std": rounded(np.sqrt(np.average((values - mean) ** 2, weights=weights))),
        "quantiles": {str(it): rounded(quantiles(values, weights, np.array([it / 100]))[0]) for it in QUANTILES},
        "edges": rounded(edges),
        "shares": rounded(counts / counts.sum()),
    }


def quantiles(values: np.ndarray, weights: np.ndarray, shares_below: np.ndarray) -> np.ndarray:
    """The least value that at least such a share of the weight does not exceed."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    # Sums may miss a share by a rounding.
    return values[order][np.minimum(np.searchsorted(reached, shares_below - 1e-12), len(values) - 1)]


def histogram(scores: np.ndarray, weights: np.ndarray) -> list[float]:
    counts, _ = np.histogram(scores, SCORE_BINS, (0, 1), weights=weights)
    return rounded(counts / weights.sum())


def shares(values: list, weights: np.ndarray) -> dict:
    """The share of the weight that each value has, largest first."""
    sums: Counter = Counter()
    for value, weight in zip(values, weights, strict=True):
        sums[value] += weight
    return {value: rounded(weight / weights.sum()) for value, weight in sums.most_common()}


def rounded(values: np.ndarray | float) -> list | float:
    """Six significant digits."""
    if np.ndim(values):
        return [rounded(it) for it in values]
    return float(f"{values:.6g}")


def write(path: Path, reference: dict) -> None:
    path.write_text(json.dumps(reference, separators=(",", ":")) + "\n")
