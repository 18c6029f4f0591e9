"""Writes the trained network as one ONNX file and checks it against PyTorch.

    python -m training.export
"""

import json
import logging

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training import CHECKPOINT, ONNX
from training.model import MEAN, STD, VialNet
from training.train import Split
from training.vial.dataset import INPUT_SIZE

OPSET = 18
OUTPUTS = ("logits", "cam", "embedding")
TOLERANCE = 1e-4
SIZE_LIMIT = 18_000_000
DOC = (
    "Classifies synthetic pictures of vials on a back light: good, particle, chips_cracks. "
    "Trained and measured on synthetic pictures only."
)


def load_checkpoint() -> tuple[VialNet, dict]:
    """The trained network, ready for inference, and how it was trained."""
    stored = torch.load(CHECKPOINT, weights_only=True)
    model = VialNet()
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


def export(model: VialNet) -> None:
    example = torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE)
    torch.onnx.export(
        model,
        (example,),
        ONNX,
        input_names=["image"],
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "N"} for name in ("image", *OUTPUTS)},
        opset_version=OPSET,
        dynamo=False,
    )
    graph = onnx.load(ONNX)
    graph.producer_name = "linesight training/export.py"
    graph.producer_version = torch.__version__
    graph.doc_string = DOC
    onnx.helper.set_model_props(graph, {"synthetic": "true"})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, ONNX)


def session() -> onnxruntime.InferenceSession:
    """ONNX Runtime as the golden scores are recorded: CPU, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(ONNX, options, providers=["CPUExecutionProvider"])


def normalised(images: np.ndarray) -> np.ndarray:
    """u8 [N, H, W, 3] to the model's f32 [N, 3, H, W]."""
    scaled = images.astype(np.float32) * np.float32(1 / 255)
    scaled = (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def check(model: VialNet) -> None:
    """Raises if the file answers differently from PyTorch, or a row differs from its batch."""
    images = normalised(np.array(Split.load("validation").images[:8]))
    runtime = session()
    batched = runtime.run(OUTPUTS, {"image": images})
    with torch.inference_mode():
        expected = [output.numpy() for output in model(torch.from_numpy(images))]
    alone = [runtime.run(OUTPUTS, {"image": image[None]}) for image in images]
    for number, name in enumerate(OUTPUTS):
        require(f"{name}: PyTorch and ONNX Runtime", batched[number], expected[number])
        require(f"{name}: batch and rows alone", batched[number], np.concatenate([row[number] for row in alone]))
    require("logits and mean of cam", batched[0], batched[1].mean((2, 3)) + model.bias.detach().numpy())
    size = ONNX.stat().st_size
    if size > SIZE_LIMIT:
        raise ValueError(f"{ONNX} has {size} bytes, more than {SIZE_LIMIT}")
    print(f"{ONNX.name}: {size} bytes, all checks within {TOLERANCE}")


def require(what: str, left: np.ndarray, right: np.ndarray) -> None:
    difference = float(np.abs(left - right).max())
    if difference > TOLERANCE:
        raise ValueError(f"{what} differ by {difference}")
    print(f"{what}: largest difference {difference:.1e}")


def main() -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model, _ = load_checkpoint()
    fold_batch_norm(model)
    export(model)
    check(model)


if __name__ == "__main__":
    main()
