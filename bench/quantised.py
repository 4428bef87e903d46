"""Models quantised by ONNX Runtime's static quantiser: QDQ, signed bytes, weights' scales for each channel."""

import logging
import os

import numpy as np
import onnx
from models import Model, shape_of
from onnx import helper

BATCHES = 4
"""How many random inputs ranges are found from."""


def quantised(model, folder):
    """The model in 8 bits."""
    # Its advice on how to quantise better.
    logging.disable(logging.WARNING)
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, path = folder / "prepared.onnx", folder / f"{model.name}-int8.onnx"
    quant_pre_process(str(model.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(path),
        Samples(model),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    os.remove(prepared)
    return Model(f"{model.name}/int8", path, model.dims, model.name, quantised=True)


class Samples:
    """Random inputs, as the quantiser wants to be given them."""

    def __init__(self, model):
        graph = onnx.load(model.path, load_external_data=False).graph
        weights = {t.name for t in graph.initializer}
        self.ports = [p for p in graph.input if p.name not in weights]
        self.dims, self.left, self.random = model.dims, BATCHES, np.random.default_rng(5)

    def get_next(self):
        if self.left == 0:
            return None
        self.left -= 1
        return {p.name: self.tensor(p) for p in self.ports}

    def tensor(self, port):
        shape = [d if isinstance(d, int) else self.dims.get(d, 1) for d in shape_of(port)]
        dtype = helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        if dtype.kind == "f":
            return self.random.standard_normal(shape).astype(dtype)
        return np.ones(shape, dtype)
