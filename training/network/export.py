"""Writes a trained network as one ONNX file and checks it against PyTorch.

python -m training.network.export NETWORK
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training import CANDIDATES
from training.network.batches import Split
from training.network.model import NETWORKS, VialNet
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, normalised
from training.report import write_json

OPSET = 18
OUTPUTS = ("logits", "cam", "embedding")
TOLERANCE = 1e-4
SIZE_LIMIT = 18_000_000
COMPARED = 32


def load_checkpoint(network: str) -> tuple[VialNet, dict]:
    """The trained network, ready for inference, and how it was trained."""
    stored = torch.load(CANDIDATES / network / "checkpoint.pt", weights_only=True, map_location="cpu")
    model = VialNet(network)
    model.load_state_dict(stored["model"])
    return model.eval(), json.loads(stored["recipe"])


def fold_batch_norm(module: nn.Module) -> None:
    """Merges each batch norm into the convolution before it, in place."""
    for child in module.children():
        fold_batch_norm(child)
    if isinstance(module, nn.Sequential):
        for index in range(len(module) - 1):
            if isinstance(module[index], nn.Conv2d) and isinstance(module[index + 1], nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(module[index], module[index + 1])
                module[index + 1] = nn.Identity()


def export(model: VialNet, target: Path) -> None:
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, INPUT_HEIGHT, INPUT_WIDTH),),
        target,
        input_names=["image"],
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "N"} for name in ("image", *OUTPUTS)},
        opset_version=OPSET,
        dynamo=False,
    )
    sign(target, "training/network/export.py", torch.__version__)


def sign(target: Path, tool: str, version: str) -> None:
    """Says in the file itself what made it."""
    graph = onnx.load(target)
    graph.producer_name = f"linesight {tool}"
    graph.producer_version = version
    graph.doc_string = "Classifies pictures of vials on a back light: good, particle, chips_cracks."
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, target)


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime as the golden scores are recorded: CPU, one thread unless told otherwise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def parity(model: VialNet, target: Path, images: np.ndarray) -> dict[str, float]:
    """Largest differences: of the file from PyTorch, of rows alone from their batch, of logits from cam."""
    inputs = normalised(images)
    runtime = session(target)
    batched = runtime.run(OUTPUTS, {"image": inputs})
    with torch.inference_mode():
        expected = [output.numpy() for output in model(torch.from_numpy(inputs))]
    singles = (runtime.run(OUTPUTS, {"image": row[None]}) for row in inputs)
    alone = [np.concatenate(rows) for rows in zip(*singles, strict=True)]
    differences = {}
    for number, name in enumerate(OUTPUTS):
        differences[f"{name}, PyTorch and ONNX Runtime"] = largest(batched[number], expected[number])
        differences[f"{name}, batch and rows alone"] = largest(batched[number], alone[number])
    from_cam = batched[1].mean((2, 3)) + model.bias.detach().numpy()
    differences["logits and the mean of cam with bias"] = largest(batched[0], from_cam)
    return differences


def largest(left: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, as a share of the largest value where that is above 1."""
    return float(np.abs(left - right).max() / max(1.0, np.abs(right).max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    network = parser.parse_args().network
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model, _ = load_checkpoint(network)
    fold_batch_norm(model)
    folder = CANDIDATES / network
    unfinished = folder / "model.onnx.part"
    export(model, unfinished)
    differences = parity(model, unfinished, Split.load("validation").images[:COMPARED])
    for what, difference in differences.items():
        print(f"{what}: largest difference {difference:.1e}")
    if max(differences.values()) > TOLERANCE:
        raise SystemExit(f"{network}: the ONNX file differs from PyTorch by more than {TOLERANCE}")
    if unfinished.stat().st_size > SIZE_LIMIT:
        raise SystemExit(f"{network}: {unfinished.stat().st_size} bytes, more than {SIZE_LIMIT}")
    unfinished.rename(folder / "model.onnx")
    report = {"images": COMPARED, "tolerance": TOLERANCE, "largest_difference": differences}
    write_json(folder / "parity.json", report)


if __name__ == "__main__":
    main()
