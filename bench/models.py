"""The models that are measured, their odd-sized and dynamic variants, and their inputs."""

import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

OPSET = [helper.make_opsetid("", 18)]
IR_VERSION = 10


@dataclass
class Model:
    name: str
    path: Path
    dims: dict = field(default_factory=dict)
    """Sizes of symbolic dimensions."""
    variant_of: str = None
    copied_bytes: int = None
    """Bytes that any program must read and write, where they are the limit and not the operations."""


class CannotChange(Exception):
    """A model has no variant of that kind."""


def named(path, folder, dims):
    """A model from a file; a graph without weights (`.onnx.zst`) is filled with seeded ones."""
    if path.suffix == ".zst":
        import zstandard

        stripped, filled = folder / f"stripped-{path.stem}", folder / path.stem
        with path.open("rb") as source, stripped.open("wb") as target:
            zstandard.ZstdDecompressor().copy_stream(source, target)
        script = path.resolve().parent.parent / "strip_weights.py"
        subprocess.run([sys.executable, script, "fill", stripped, filled], check=True)
        stripped.unlink()
        path = filled
    return Model(path.name.removesuffix(".onnx"), path, dims)


def made(folder):
    """Models for the limits of the machine: products, and a chain of pointwise operations."""
    n, elements = 1024, (16, 1024, 1024)
    square = {"a": (n, n), "b": (n, n)}
    weight = np.random.default_rng(1).standard_normal((n, n), dtype="f4") / np.float32(n) ** 0.5
    product = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    chain = [
        helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["moved"]),
        helper.make_node("Relu", ["moved"], ["y"]),
    ]
    constants = {"factor": np.float32(1.5), "offset": np.float32(0.25)}
    copied = 2 * 4 * int(np.prod(elements))
    return [
        Model("matmul_1024", write(folder, "matmul_1024", product, {"a": (n, n)}, (n, n), {"b": weight})),
        Model("matmul_1024_inputs", write(folder, "matmul_1024_inputs", product, square, (n, n), {})),
        Model("pointwise_16m", write(folder, "pointwise_16m", chain, {"x": elements}, elements, constants), copied_bytes=copied),
    ]


def write(folder, name, nodes, inputs, output, constants):
    def port(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        name,
        [port(*i) for i in inputs.items()],
        [port("y", output)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=IR_VERSION), path)
    return path


def variants(model, folder):
    """(variant, or None; why there is none) for the odd sizes and the dynamic length that suit a model."""
    inputs = onnx.load(model.path, load_external_data=False).graph.input
    shapes = [shape_of(i) for i in inputs]
    integers = any(i.type.tensor_type.elem_type == TensorProto.INT64 for i in inputs)
    wanted = []
    if all(len(s) == 4 for s in shapes):
        wanted.append(("223x221", {2: 223, 3: 221}, {}))
    if integers and all(len(s) == 2 for s in shapes):
        wanted.append(("127_tokens", {1: shapes[0][1] - 1}, {}))
        wanted.append(("dynamic", {1: "length"}, {"length": shapes[0][1]}))
    batch = shapes[0][0]
    wanted.append(("batch_3", {0: 3}, {}) if batch == 1 else (f"batch_{batch - 1}", {0: batch - 1}, {}))
    for suffix, sizes, dims in wanted:
        name = f"{model.name}/{suffix}"
        path = folder / (name.replace("/", "-") + ".onnx")
        try:
            onnx.save(resized(onnx.load(model.path), sizes), path)
            yield Model(name, path, dims, model.name), None
        except (CannotChange, shape_inference.InferenceError) as e:
            yield None, f"{name}: {e}"


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def resized(model, sizes):
    """The model with other sizes (numbers, or a name) of its inputs' axes."""
    graph = model.graph
    known = shape_inference.infer_shapes(model).graph
    shapes = {v.name: shape_of(v) for v in (*known.value_info, *known.input)}
    free_reshapes(graph, shapes)
    old = shape_of(graph.input[0])
    for axis, size in sizes.items():
        if not isinstance(old[axis], int):
            raise CannotChange(f"axis {axis} is symbolic already")
        for value in graph.input:
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            setattr(dim, "dim_value" if isinstance(size, int) else "dim_param", size)
        # A size of 1 broadcasts, so what depends on it need not change.
        if old[axis] > 1:
            stretch_constants(graph, axis, old[axis], size)
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def free_reshapes(graph, shapes):
    """Lets a Reshape copy the extents that it keeps, where it names them."""
    constants = {t.name: t for t in graph.initializer}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        before = shapes.get(node.input[0], [])
        after = numpy_helper.to_array(constants[node.input[1]])
        kept = [0 if a == b else a for a, b in zip(after, before)]
        name = f"reshape_{number}"
        graph.initializer.append(numpy_helper.from_array(np.array([*kept, *after[len(kept) :]], "i8"), name))
        node.input[1] = name
        # With it, 0 would be an extent.
        for attribute in [a for a in node.attribute if a.name == "allowzero"]:
            node.attribute.remove(attribute)


def stretch_constants(graph, axis, old, size):
    """Makes integer and boolean constants (positions, masks) as long as the inputs have become. They go
    up in equal steps along their axis, so that each of their elements is known for any length."""
    added = []
    for tensor in list(graph.initializer):
        if tensor.data_type == TensorProto.FLOAT or old not in tensor.dims:
            continue
        along = list(tensor.dims).index(old)
        value = numpy_helper.to_array(tensor)
        first, second = (np.take(value, [i], along) for i in (0, 1))
        step = second.astype("i8") - first.astype("i8")
        shape = [1] * value.ndim
        shape[along] = -1
        ramp = lambda n: (first + step * np.arange(n).reshape(shape)).astype(value.dtype)
        if not np.array_equal(ramp(old), value):
            raise CannotChange(f"the constant {tensor.name} has the size {old}, and nothing tells its elements for others")
        graph.initializer.remove(tensor)
        if isinstance(size, int):
            graph.initializer.append(numpy_helper.from_array(ramp(size), tensor.name))
        else:
            added += ramp_nodes(graph, tensor.name, axis, first, step, shape)
    for node in reversed(added):
        graph.node.insert(0, node)


def ramp_nodes(graph, name, axis, first, step, shape):
    """Nodes that compute a constant from the length of an input."""

    def constant(suffix, value):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{name}_{suffix}"))
        return f"{name}_{suffix}"

    length, first = f"{name}_length", constant("first", first)
    nodes = [helper.make_node("Shape", [graph.input[0].name], [length], start=axis, end=axis + 1)]
    if not step.any():
        ones = [1] * shape.index(-1), [1] * (len(shape) - 1 - shape.index(-1))
        parts = [constant("before", np.array(ones[0], "i8")), length, constant("after", np.array(ones[1], "i8"))]
        nodes.append(helper.make_node("Concat", parts, [f"{name}_shape"], axis=0))
        nodes.append(helper.make_node("Expand", [first, f"{name}_shape"], [name]))
        return nodes
    nodes += [
        helper.make_node("Squeeze", [length], [f"{name}_n"]),
        helper.make_node("Range", [constant("zero", np.int64(0)), f"{name}_n", constant("one", np.int64(1))], [f"{name}_range"]),
        helper.make_node("Reshape", [f"{name}_range", constant("extents", np.array(shape, "i8"))], [f"{name}_column"]),
        helper.make_node("Mul", [f"{name}_column", constant("step", step)], [f"{name}_steps"]),
        helper.make_node("Add", [f"{name}_steps", first], [name]),
    ]
    return nodes


def inputs(model, folder):
    """Seeded inputs as (name, .npy file), in the model's order, and the names of its outputs."""
    graph = onnx.load(model.path, load_external_data=False).graph
    weights = {t.name: t.dims for t in graph.initializer}
    # What selects rows of a weight may be any of its rows.
    rows = {n.input[1]: weights[n.input[0]][0] for n in graph.node if n.op_type == "Gather" and n.input[0] in weights}
    files = []
    for number, port in enumerate(p for p in graph.input if p.name not in weights):
        shape = [d if isinstance(d, int) else model.dims.get(d, 1) for d in shape_of(port)]
        dtype = helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        rng = np.random.default_rng(zlib.crc32(port.name.encode()))
        if dtype.kind == "f":
            value = rng.standard_normal(shape).astype(dtype)
        elif port.name in rows:
            value = rng.integers(0, rows[port.name], shape).astype(dtype)
        else:
            # A mask, most likely: the last quarter is padding.
            value = np.ones(shape, dtype)
            value[..., 3 * shape[-1] // 4 :] = 0
        files.append((port.name, folder / f"input{number}.npy"))
        np.save(files[-1][1], value)
    return files, [o.name for o in graph.output]
