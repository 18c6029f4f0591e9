"""Writes an int8 version of an exported network: static, QDQ, per channel.

    python -m training.network.quantise NETWORK

Ranges come from pictures of the training split: the calibration split is for
thresholds and stays out of it. The head, which turns evidence into logits and
maps, stays in float; so does nothing else. What the file answers is measured
like any other candidate's, through the server.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from training import CANDIDATES, WORK
from training.network.batches import Split
from training.network.export import OUTPUTS, session, sign
from training.network.model import NETWORKS
from training.preprocess import normalised
from training.report import write_json

RANGED_ON = 256
COMPARED = 200
TIMED = 30


class Pictures(CalibrationDataReader):
    """Training pictures, one at a time, evenly from the whole split."""

    def __init__(self, split: Split) -> None:
        indices = np.linspace(0, len(split.labels) - 1, RANGED_ON).astype(int)
        self.inputs = iter({"image": normalised(split.images[index][None])} for index in indices)

    def get_next(self) -> dict | None:
        return next(self.inputs, None)


def head_nodes(path: Path) -> list[str]:
    """Every node after the last convolution but one: the evidence and what is made of it."""
    nodes = onnx.load(path).graph.node
    convolutions = [number for number, node in enumerate(nodes) if node.op_type == "Conv"]
    return [node.name for node in nodes[convolutions[-1] :]]


def quantise(source: Path, target: Path, split: Split) -> None:
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Pictures(split),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # One picture with an outlier would stretch every range, and leave the others few levels.
        extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05},
        nodes_to_exclude=head_nodes(prepared),
    )
    prepared.unlink()
    sign(target, "training/network/quantise.py", onnxruntime.__version__)


def milliseconds(path: Path, image: np.ndarray) -> float:
    """The median time of one picture on one thread."""
    runtime = session(path)
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        runtime.run(["logits"], {"image": image})
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 2)


def compare(source: Path, target: Path, split: Split) -> dict:
    """How far int8 is from float: its answers, its time."""
    inputs = [normalised(image[None]) for image in split.images[:COMPARED]]
    answers = [
        np.concatenate([session_.run(OUTPUTS[:1], {"image": row})[0] for row in inputs])
        for session_ in (session(source, 2), session(target, 2))
    ]
    return {
        "images": len(inputs),
        "largest_difference": {"logits, int8 and float": float(np.abs(answers[0] - answers[1]).max())},
        "same_label": float((answers[0].argmax(1) == answers[1].argmax(1)).mean()),
        "milliseconds_one_thread": {"float": milliseconds(source, inputs[0]), "int8": milliseconds(target, inputs[0])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    network = parser.parse_args().network
    source, folder = CANDIDATES / network / "model.onnx", CANDIDATES / f"{network}_int8"
    folder.mkdir(exist_ok=True)
    unfinished = WORK / "int8.part.onnx"
    quantise(source, unfinished, Split.load("train"))
    report = compare(source, unfinished, Split.load("validation"))
    print(json.dumps(report, indent=1))
    shutil.move(unfinished, folder / "model.onnx")
    write_json(folder / "parity.json", report)


if __name__ == "__main__":
    main()
