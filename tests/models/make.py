"""Makes the small ONNX models of the integration tests into the folder named.

Real graphs run by the real ONNX Runtime, each built to show one thing:

    wide_mlp        16 MB of weights a layer: memory-bound alone, so items gain from sharing a run
    small_mlp       1 MB, for many at a time
    time_major_rnn  axis 0 is time: looks as if rows could be stacked, and they cannot
    colour          an image classifier by the mean of each channel: red, green or blue
    colour_nan      the same, and the logits are NaN where the picture is dark
    slow            the same, after enough multiplications to take a tenth of a second and more
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = [helper.make_opsetid("", 17)]
F32 = TensorProto.FLOAT


def save(folder: Path, name: str, nodes, inputs, outputs, initializers) -> None:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / f"{name}.onnx")


def tensor(name: str, array: np.ndarray):
    return numpy_helper.from_array(array.astype(np.float32), name)


def value(name: str, shape):
    return helper.make_tensor_value_info(name, F32, shape)


def wide_mlp(folder: Path) -> None:
    dice = np.random.default_rng(1)
    weights = [
        tensor("w1", dice.normal(0, 0.03, (1024, 4096))),
        tensor("w2", dice.normal(0, 0.03, (4096, 1024))),
        tensor("w3", dice.normal(0, 0.03, (1024, 16))),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["y"]),
    ]
    save(folder, "wide_mlp", nodes, [value("x", ["N", 1024])], [value("y", ["N", 16])], weights)


def small_mlp(folder: Path) -> None:
    dice = np.random.default_rng(5)
    weights = [
        tensor("w1", dice.normal(0, 0.03, (512, 496))),
        tensor("w2", dice.normal(0, 0.03, (496, 16))),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    save(folder, "small_mlp", nodes, [value("x", ["N", 512])], [value("y", ["N", 16])], weights)


def time_major_rnn(folder: Path) -> None:
    dice = np.random.default_rng(2)
    weights = [
        tensor("w", dice.normal(0, 0.5, (1, 8, 4))),
        tensor("r", dice.normal(0, 0.5, (1, 8, 8))),
    ]
    nodes = [
        helper.make_node("RNN", ["x", "w", "r"], ["all", ""], hidden_size=8),
        helper.make_node("Squeeze", ["all", "axis"], ["y"]),
    ]
    weights.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    save(
        folder,
        "time_major_rnn",
        nodes,
        [value("x", ["T", 1, 4])],
        [value("y", ["T", 1, 8])],
        weights,
    )


def colour_nodes(source: str, scores: str):
    return [helper.make_node("ReduceMean", [source], [scores], axes=[2, 3], keepdims=0)]


def colour(folder: Path) -> None:
    nodes = colour_nodes("image", "mean") + [helper.make_node("Mul", ["mean", "ten"], ["logits"])]
    io = [value("image", ["N", 3, 32, 32])], [value("logits", ["N", 3])]
    save(folder, "colour", nodes, *io, [tensor("ten", np.array([10.0]))])


def colour_nan(folder: Path) -> None:
    # The logarithm of a negative number, for channels whose mean is below a tenth.
    nodes = colour_nodes("image", "mean") + [
        helper.make_node("Sub", ["mean", "tenth"], ["less"]),
        helper.make_node("Log", ["less"], ["logits"]),
    ]
    io = [value("image", ["N", 3, 32, 32])], [value("logits", ["N", 3])]
    save(folder, "colour_nan", nodes, *io, [tensor("tenth", np.array([0.1]))])


def slow(folder: Path) -> None:
    # Twelve products of 1024 x 1024: 26 GFLOP, an eighth to half a second on one core.
    dice = np.random.default_rng(3)
    size, n = 1024, 12
    nodes, last = [], "eye"
    for step in range(n):
        nodes.append(helper.make_node("MatMul", [last, "m"], [f"p{step}"]))
        last = f"p{step}"
    nodes += [
        # Zero, but the runtime cannot know: keeps the products alive and out of the answer.
        helper.make_node("ReduceMean", [last], ["all"], keepdims=0),
        helper.make_node("Mul", ["all", "zero_like"], ["nothing"]),
        *colour_nodes("image", "mean"),
        helper.make_node("ReduceMean", ["image"], ["grand"], keepdims=0),
        helper.make_node("Mul", ["grand", "zero"], ["zero_like"]),
        helper.make_node("Add", ["mean", "nothing"], ["logits"]),
    ]
    # Starting from the image keeps the products from being folded into a constant at load.
    nodes.insert(0, helper.make_node("ReduceMean", ["image"], ["seed"], keepdims=0))
    nodes.insert(1, helper.make_node("Mul", ["seed", "base"], ["eye"]))
    weights = [
        tensor("m", dice.normal(0, 1 / np.sqrt(size), (size, size))),
        tensor("base", dice.normal(0, 1, (size, size))),
        tensor("zero", np.array(0.0)),
    ]
    order = {name: at for at, name in enumerate(["grand", "zero_like", "nothing", "logits"])}
    nodes.sort(key=lambda node: order.get(node.output[0], -1))
    io = [value("image", [1, 3, 32, 32])], [value("logits", [1, 3])]
    save(folder, "slow", nodes, *io, weights)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for make in (wide_mlp, small_mlp, time_major_rnn, colour, colour_nan, slow):
        if not (target / f"{make.__name__}.onnx").exists():
            make(target)
