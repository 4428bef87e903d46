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
    synthetic: bool = False
    """Made to stand for a limit of the machine."""
    quantised: bool = False
    """Computed in integers of 8 bits, so that outputs differ by steps, and operations are counted otherwise."""
    copied_bytes: int = None
    """Bytes that any program must read and write, where they are the limit and not the operations."""


class CannotChange(Exception):
    """A model has no variant of that kind."""


def named(path, dims, folder):
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
    known = {d for i in onnx.load(path, load_external_data=False).graph.input for d in shape_of(i)}
    return Model(path.name.removesuffix(".onnx"), path, {k: n for k, n in dims.items() if k in known})


def product(folder):
    """A matrix product with a weight."""
    n = 1024
    weight = np.random.default_rng(1).standard_normal((n, n), dtype="f4") / np.float32(n) ** 0.5
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    return write(folder, "matmul_1024", [node], {"a": (n, n)}, (n, n), {"b": weight})


def product_of_inputs(folder):
    """The same, where nothing is known before the call."""
    n = 1024
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    return write(folder, "matmul_1024_inputs", [node], {"a": (n, n), "b": (n, n)}, (n, n), {})


def pointwise(folder):
    """A chain of pointwise operations on a tensor that no cache holds."""
    shape = (16, 1024, 1024)
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["moved"]),
        helper.make_node("Relu", ["moved"], ["y"]),
    ]
    constants = {"factor": np.float32(1.5), "offset": np.float32(0.25)}
    model = write(folder, "pointwise_16m", nodes, {"x": shape}, shape, constants)
    model.copied_bytes = 2 * 4 * int(np.prod(shape))
    return model


MADE = [product, product_of_inputs, pointwise]
"""Models that stand for the limits of the machine."""


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
    return Model(name, path, synthetic=True)


def variants(model, folder):
    """(variant, or None; why there is none) for the odd sizes and the dynamic length that suit a model."""
    inputs = onnx.load(model.path, load_external_data=False).graph.input
    shapes = [shape_of(i) for i in inputs]
    integers = any(i.type.tensor_type.elem_type == TensorProto.INT64 for i in inputs)
    wanted = []
    if all(len(s) == 4 for s in shapes):
        wanted.append(("223x221", {2: 223, 3: 221}, {}))
    if integers and all(len(s) == 2 for s in shapes):
        length = shapes[0][1]
        wanted.append(("127_tokens", {1: 127}, {}))
        wanted.append(("dynamic", {1: "length"}, {"length": length}))
    # A batch of 3 tells nothing of a model that is made for many: it has another limit.
    size = 3 if shapes[0][0] == 1 else 127
    wanted.append((f"batch_{size}", {0: size}, {}))
    for suffix, sizes, dims in wanted:
        name = f"{model.name}/{suffix}"
        path = folder / (name.replace("/", "-") + ".onnx")
        try:
            onnx.save(resized(onnx.load(model.path), sizes), path)
            yield Model(name, path, dims, model.name), None
        except (CannotChange, shape_inference.InferenceError) as e:
            yield None, f"{name}: {' '.join(str(e).split())}"


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def resized(model, sizes):
    """The model with other sizes (numbers, or a name) of its inputs' axes."""
    graph = model.graph
    known = shape_inference.infer_shapes(model).graph
    shapes = {v.name: shape_of(v) for v in (*known.value_info, *known.input)}
    free_reshapes(graph, shapes)
    extents = list(zip(*(shape_of(i) for i in graph.input)))
    for axis, size in sizes.items():
        old = extents[axis][0] if axis < len(extents) else None
        if not isinstance(old, int) or set(extents[axis]) != {old}:
            raise CannotChange(f"axis {axis} of the inputs has no size that is constant and the same")
        for value in graph.input:
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            setattr(dim, "dim_value" if isinstance(size, int) else "dim_param", size)
        # A size of 1 broadcasts, so what depends on it need not change.
        if old > 1:
            stretch_constants(graph, axis, old, size)
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
            raise CannotChange(f"nothing tells the elements of the constant {tensor.name} for another size")
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
        at = shape.index(-1)
        before = constant("before", np.array(shape[:at], "i8"))
        after = constant("after", np.array(shape[at + 1 :], "i8"))
        nodes.append(helper.make_node("Concat", [before, length, after], [f"{name}_shape"], axis=0))
        nodes.append(helper.make_node("Expand", [first, f"{name}_shape"], [name]))
        return nodes
    zero, one = constant("zero", np.int64(0)), constant("one", np.int64(1))
    extents = constant("extents", np.array(shape, "i8"))
    nodes += [
        helper.make_node("Squeeze", [length], [f"{name}_n"]),
        helper.make_node("Range", [zero, f"{name}_n", one], [f"{name}_range"]),
        helper.make_node("Reshape", [f"{name}_range", extents], [f"{name}_column"]),
        helper.make_node("Mul", [f"{name}_column", constant("step", step)], [f"{name}_steps"]),
        helper.make_node("Add", [f"{name}_steps", first], [name]),
    ]
    return nodes


def inputs(model, folder):
    """Seeded inputs as (name, .npy file), in the model's order, and the names of its outputs."""
    graph = onnx.load(model.path, load_external_data=False).graph
    weights = {t.name: t.dims for t in graph.initializer}
    # What selects rows of a weight may be any of its rows.
    lookups = [n for n in graph.node if n.op_type == "Gather" and n.input[0] in weights]
    rows = {n.input[1]: weights[n.input[0]][0] for n in lookups}
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
