#!/usr/bin/env python3
"""Trains a small convolutional network on scikit-learn's handwritten digits and exports it to ONNX.

    pip install numpy onnx scikit-learn
    python3 train.py

writes, beside this file:

    digits.onnx               the network, opset 18: images f32[batch, 1, 8, 8] -> probabilities f32[batch, 10]
    test_data_set_0, _1       held-out images with the probabilities expected for them, ONNX test layout
    seven.npy, images.npy     one held-out image of a seven, and a batch of ten images, one of each digit
    images_expected.npy       the probabilities expected for that batch

Pixels go from 0 to 16, as the data set has them; the network scales them itself. The network is trained
here in numpy, and what is expected of it is computed here in f64: neither depends on another framework.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parent
CHANNELS = (8, 16)
EPOCHS, BATCH, RATE = 40, 32, 2e-3
TRAINING = 1437  # of 1797 images; the other 360 are held out


def initial(rng):
    """He initialisation of all parameters, by name."""
    a, b = CHANNELS
    scaled = lambda *shape: rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    return {
        "conv1.weight": scaled(a, 1, 3, 3),
        "conv1.bias": np.zeros(a),
        "conv2.weight": scaled(b, a, 3, 3),
        "conv2.bias": np.zeros(b),
        "dense.weight": scaled(10, b * 16),
        "dense.bias": np.zeros(10),
    }


def patches(x):
    """[n, c, h, w] -> the 3x3 neighbourhood of each pixel, zeros beyond the edge: [n, h, w, c * 9]."""
    n, c, h, w = x.shape
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n, h, w, c * 9)


def convolve(x, weight, bias):
    columns = patches(x)
    y = columns @ weight.reshape(len(weight), -1).T + bias
    return y.transpose(0, 3, 1, 2), columns


def forward(p, x):
    """Probabilities, and what the derivative needs."""
    z1, c1 = convolve(x / 16, p["conv1.weight"], p["conv1.bias"])
    a1 = np.maximum(z1, 0)
    z2, c2 = convolve(a1, p["conv2.weight"], p["conv2.bias"])
    a2 = np.maximum(z2, 0)
    n, c, h, w = a2.shape
    blocks = a2.reshape(n, c, h // 2, 2, w // 2, 2)
    pooled = blocks.max(axis=(3, 5))
    features = pooled.reshape(n, -1)
    logits = features @ p["dense.weight"].T + p["dense.bias"]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True), (c1, z1, c2, z2, blocks, pooled, features)


def gradients(p, x, labels):
    """Derivatives of the mean cross-entropy for all parameters."""
    probabilities, (c1, z1, c2, z2, blocks, pooled, features) = forward(p, x)
    n = len(x)
    d_logits = probabilities.copy()
    d_logits[np.arange(n), labels] -= 1
    d_logits /= n
    d_pooled = (d_logits @ p["dense.weight"]).reshape(pooled.shape)
    is_max = blocks == pooled[:, :, :, None, :, None]
    d_blocks = is_max * (d_pooled / is_max.sum(axis=(3, 5)))[:, :, :, None, :, None]
    d_z2 = (d_blocks.reshape(z2.shape) * (z2 > 0)).transpose(0, 2, 3, 1)
    # The derivative of a convolution for its input is one with the kernel turned by 180 degrees.
    turned = p["conv2.weight"][:, :, ::-1, ::-1].swapaxes(0, 1)
    d_a1, _ = convolve(d_z2.transpose(0, 3, 1, 2), turned, 0)
    d_z1 = (d_a1 * (z1 > 0)).transpose(0, 2, 3, 1)
    of_weight = lambda d, columns, like: np.tensordot(d, columns, ([0, 1, 2], [0, 1, 2])).reshape(like.shape)
    return {
        "conv1.weight": of_weight(d_z1, c1, p["conv1.weight"]),
        "conv1.bias": d_z1.sum(axis=(0, 1, 2)),
        "conv2.weight": of_weight(d_z2, c2, p["conv2.weight"]),
        "conv2.bias": d_z2.sum(axis=(0, 1, 2)),
        "dense.weight": d_logits.T @ features,
        "dense.bias": d_logits.sum(axis=0),
    }


def train(x, labels, rng):
    """Adam (Kingma and Ba, 2015) with a rate that falls to zero along a cosine."""
    p = initial(rng)
    mean, square = ({k: np.zeros_like(v) for k, v in p.items()} for _ in range(2))
    per_epoch = -(-len(x) // BATCH)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        for i in range(per_epoch):
            step = epoch * per_epoch + i + 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / (EPOCHS * per_epoch)))
            chosen = order[i * BATCH : (i + 1) * BATCH]
            for k, g in gradients(p, x[chosen], labels[chosen]).items():
                mean[k] += 0.1 * (g - mean[k])
                square[k] += 0.001 * (g * g - square[k])
                unbiased = mean[k] / (1 - 0.9**step), square[k] / (1 - 0.999**step)
                p[k] -= rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        print(f"epoch {epoch + 1:2}: training accuracy {accuracy(p, x, labels):.4f}")
    return p


def accuracy(p, x, labels):
    return (forward(p, x)[0].argmax(axis=1) == labels).mean()


def to_onnx(p):
    """The network as an ONNX model, weights as raw f32 data."""
    constants = {"scale": np.float32(1 / 16)} | {k: v.astype(np.float32) for k, v in p.items()}
    conv = dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"], "scale_pixels"),
        helper.make_node("Conv", ["scaled", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", **conv),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", **conv),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("MaxPool", ["relu2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten"),
        helper.make_node("Gemm", ["features", "dense.weight", "dense.bias"], ["logits"], "dense", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
        doc_string="Handwritten digits of 8x8 pixels from 0 to 16, trained on scikit-learn's data set.",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="train.py")
    model.ir_version = 9
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    data = load_digits()
    rng = np.random.default_rng(7)
    order = rng.permutation(len(data.images))
    images, labels = data.images[order][:, None], data.target[order]
    p = train(images[:TRAINING], labels[:TRAINING], rng)
    # From here on the parameters are those that the file holds.
    p = {k: v.astype(np.float32).astype(np.float64) for k, v in p.items()}
    test, test_labels = images[TRAINING:], labels[TRAINING:]
    right = int((forward(p, test)[0].argmax(axis=1) == test_labels).sum())
    print(f"held out: {right} of {len(test)} right, {100 * right / len(test):.2f} %")

    onnx.save(to_onnx(p), HERE / "digits.onnx")
    expected = lambda x: forward(p, x)[0].astype(np.float32)
    one_of_each = np.stack([test[test_labels == d][0] for d in range(10)])
    np.save(HERE / "seven.npy", one_of_each[7:8].astype(np.float32))
    np.save(HERE / "images.npy", one_of_each.astype(np.float32))
    np.save(HERE / "images_expected.npy", expected(one_of_each))
    for n, x in enumerate([test[:1], test[1:14]]):
        folder = HERE / f"test_data_set_{n}"
        folder.mkdir(exist_ok=True)
        for file, name, tensor in [("input_0.pb", "image", x.astype(np.float32)), ("output_0.pb", "probabilities", expected(x))]:
            (folder / file).write_bytes(numpy_helper.from_array(tensor, name).SerializeToString())


if __name__ == "__main__":
    main()
