"""A pipeline of small grey pictures and a model of a few weights, which tells them by brightness."""

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from training import LABELS, REPOSITORY
from training.judge.bar import bar
from training.judge.calibrate import report
from training.judge.decision import Policy, logits_of
from training.judge.measure import measure_test
from training.judge.served import Staged, ask
from training.network.model import CELL
from training.package.stage import Places, set_thresholds, stage
from training.params import params
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, MEAN, STD
from training.report import write_json
from training.rows import Defect, Row, read, write

CANDIDATE = params()["package"]["candidate"]
# Brightness of a vial of each label, and what lies between good and particle.
LEVELS = {"good": 205, "particle": 130, "chips_cracks": 60}
BETWEEN = 165
# Log-odds a share of the range of brightness.
STEEPNESS = 60.0
COUNTS = {"good": 60, "particle": 40, "chips_cracks": 40}
KINDS = {"particle": ("speck", "fibre"), "chips_cracks": ("crack", "chip_rim", "chip_shoulder", "chip_heel")}


def grey(level: float, seed: int) -> bytes:
    """A noisy JPEG of 64x128."""
    noise = np.random.default_rng(seed).normal(level, 3, (128, 64, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_model(path: Path) -> None:
    """Outputs as agreed: logits, cam with logits = mean(cam) + bias, embedding."""
    # Weights that give the mean brightness of a cell, less a constant.
    per_pixel = np.array(STD, np.float32)[None, :, None, None] / (3 * CELL * CELL)
    brightness = np.tile(per_pixel, (1, 1, CELL, CELL))
    slopes = np.array([STEEPNESS, 0, -STEEPNESS], np.float32)
    lowest, highest = (LEVELS["particle"] + LEVELS["chips_cracks"]) / 2 / 255, BETWEEN / 255
    offset = float(np.mean(MEAN))
    bias = STEEPNESS * np.array([offset - highest, 0, lowest - offset], np.float32)
    weights = {
        "to_cam": slopes[:, None, None, None] * brightness,
        "to_features": np.repeat(brightness, 2, axis=0).astype(np.float32),
        "bias": bias,
    }
    nodes = [
        helper.make_node("Conv", ["image", "to_cam"], ["cam"], strides=[CELL, CELL]),
        helper.make_node("GlobalAveragePool", ["cam"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Add", ["flat", "bias"], ["logits"]),
        helper.make_node("Conv", ["image", "to_features"], ["features"], strides=[CELL, CELL]),
        helper.make_node("Flatten", ["features"], ["embedding"]),
    ]
    rows, columns = INPUT_HEIGHT // CELL, INPUT_WIDTH // CELL
    shapes = {"logits": ["N", 3], "cam": ["N", 3, rows, columns], "embedding": ["N", 2 * rows * columns]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, INPUT_HEIGHT, INPUT_WIDTH])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True)
    onnx.save(model, path)


def write_data(folder: Path) -> None:
    (folder / "calibration").mkdir(parents=True)
    rng = np.random.default_rng(5)
    rows = []
    for label, count in COUNTS.items():
        for number in range(count):
            # Two of each are hard to tell.
            level = BETWEEN + 4 if number < 2 else LEVELS[label] + rng.uniform(-12, 12)
            index, content = len(rows), grey(level, len(rows))
            path = f"calibration/{index:06d}.jpg"
            (folder / path).write_bytes(content)
            kinds = KINDS.get(label)
            defects = [Defect(kinds[number % len(kinds)], 14.0 + number, 30.0, (9.0, 9.0))] if kinds else []
            confusers = ["reflections", *(("bubbles", "dust", "scratches", "print") if number % 2 else ())]
            digest = hashlib.sha256(content).hexdigest()
            rows.append(Row("calibration", index, label, digest, path, "L001", 0.5, "A", "2R", confusers, defects))
    write("calibration", rows, folder)
    split = {"n": COUNTS, "digest": "sha256:" + "1" * 64}
    summary = {"kind": "synthetic", "generator_revision": 0, "seed": 5, "digest": "sha256:" + "2" * 64}
    (folder / "summary.json").write_text(json.dumps({**summary, "splits": {"calibration": split, "test": split}}))


class Pipeline:
    """Places of a test's own, up to an evaluated candidate; the calibration split is taken for test, too."""

    def __init__(self, root: Path) -> None:
        names = (
            "data",
            "candidates",
            "provisional",
            "staged",
            "models",
            "sealing",
            "finished",
            "samples",
            "comparison.json",
        )
        self.places = Places(*(root / name for name in names))
        folder = self.places.staged_version(CANDIDATE)
        self.staged = Staged(self.places.staged / CANDIDATE, folder.parent.name, folder.name)

    def write(self) -> None:
        """What there is before anything is staged."""
        write_data(self.places.data)
        write_model(self.places.candidates / CANDIDATE / "model.onnx")
        operators = self.places.models / params()["package"]["name"] / "model.toml"
        operators.parent.mkdir(parents=True)
        operators.write_text((REPOSITORY / "models" / operators.parent.name / "model.toml").read_text())

    def run(self) -> None:
        stage(CANDIDATE, self.places)
        answers = self.answers(replace(self.staged, repository=self.places.provisional / CANDIDATE))
        scores = np.array([answer.label_scores for _, answer in answers])
        truth = np.array([LABELS.index(row.label) for row, _ in answers])
        calibration = report(logits_of(scores), truth, params()["decide"])
        self.keep("calibration.json", {"split": "calibration", **calibration})
        set_thresholds(CANDIDATE, Policy(1.0, 0.98, 0.6), self.places)
        recipe = {"network": CANDIDATE, "seconds": 60, "device": "cpu", "phases": params()["train"]["phases"]}
        torch.save({"recipe": json.dumps(recipe)}, self.places.candidates / CANDIDATE / "checkpoint.pt")
        self.keep("parity.json", {"tolerance": 1e-4})
        self.evaluate()

    def answers(self, version: Staged) -> list:
        rows = read("calibration", self.places.data)
        kept_in = self.places.candidates / CANDIDATE / "answers"
        return list(zip(rows, ask(version, rows, kept_in, "calibration", self.places.data), strict=True))

    def evaluate(self) -> None:
        """Without pictures of known sizes and changed ones, as of photographs."""
        test = measure_test(self.answers(self.staged))
        summary = json.loads((self.places.data / "summary.json").read_text())
        evaluation = {
            "candidate": CANDIDATE,
            "version": self.staged.version,
            "digest": self.staged.digest,
            "binary": "linesight",
            "data": summary,
            "policy": asdict(self.staged.policy),
            "bar": bar(test, []),
            "test": test,
            "sizes": [],
            "robustness": [],
            "unanswered": [],
        }
        self.keep("evaluation.json", evaluation)
        incumbent = params()["package"]["incumbent"]
        self.keep("evaluation.json", {**evaluation, "candidate": incumbent}, incumbent)

    def keep(self, name: str, value: dict, candidate: str = CANDIDATE) -> None:
        write_json(self.places.candidates / candidate / name, value)
