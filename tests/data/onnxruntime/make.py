"""Makes the recorded cases of this folder: one node each of an op that ONNX Runtime defines, or that
ONNX had in its first versions, with seeded inputs and with what ONNX Runtime computes on its CPU.

    python make.py      (with the packages onnx, onnxruntime and numpy)

The layout is that of ONNX's own tests. `ORIGIN` states the versions that made what lies here.
"""

import pathlib
import shutil

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
MS = "com.microsoft"
rng = np.random.default_rng(7)


def f(*shape, lo=-1.0, hi=1.0):
    return rng.uniform(lo, hi, shape).astype(np.float32)


def i(values, dtype=np.int32):
    return np.array(values, dtype=dtype)


def case(name, op, inputs, outputs=1, domain=MS, opset=17, names=None, kept=None, **attrs):
    """Records a case. An input of None is absent, and so is an output where `names` has an empty one. Of the
    outputs, `kept` are recorded, or all."""
    given = [(f"x{n}", x) for n, x in enumerate(inputs)]
    outs = names or [f"y{n}" for n in range(outputs)]
    node = helper.make_node(op, [k if x is not None else "" for k, x in given], outs, domain=domain, **attrs)
    types = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for k, x in given
        if x is not None
    ]
    wanted = [o for o in outs if o][:kept]
    graph = helper.make_graph(
        [node], name, types, [helper.make_tensor_value_info(o, TensorProto.UNDEFINED, None) for o in wanted]
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    for o in model.graph.output:
        o.ClearField("type")
    feeds = {k: x for k, x in given if x is not None}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, feeds)
    del model.graph.output[:]
    for o, r in zip(wanted, results):
        info = helper.make_tensor_value_info(o, helper.np_dtype_to_tensor_dtype(r.dtype), r.shape)
        model.graph.output.append(info)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    for kind, tensors in (("input", list(feeds.values())), ("output", results)):
        for n, t in enumerate(tensors):
            (data / f"{kind}_{n}.pb").write_bytes(numpy_helper.from_array(t).SerializeToString())


def activations():
    case("gelu", "Gelu", [f(2, 9, lo=-4, hi=4)])
    case("fast_gelu", "FastGelu", [f(2, 9, lo=-4, hi=4)])
    case("fast_gelu_bias", "FastGelu", [f(2, 9), f(9)])
    case("bias_gelu", "BiasGelu", [f(2, 3, 9), f(9)])
    case("quick_gelu", "QuickGelu", [f(2, 9, lo=-4, hi=4)])
    case("quick_gelu_alpha", "QuickGelu", [f(2, 9)], alpha=0.5)


def normalizations():
    case("simplified_layer_norm", "SimplifiedLayerNormalization", [f(2, 3, 8), f(8)], domain="", epsilon=1e-5)
    case("skip_layer_norm", "SkipLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)],
         names=["y", "", "", "sum"], epsilon=1e-5)
    case("skip_layer_norm_plain", "SkipLayerNormalization", [f(2, 3, 8), f(2, 3, 8), f(8)])
    case("skip_simplified_layer_norm", "SkipSimplifiedLayerNormalization",
         [f(2, 3, 8), f(2, 3, 8), f(8), f(8)], names=["y", "", "", "sum"], epsilon=1e-6)
    case("embed_layer_norm", "EmbedLayerNormalization",
         [i([[1, 0, 4], [3, 2, 5]]), i([[0, 0, 1], [0, 1, 1]]), f(6, 8), f(5, 8), f(2, 8), f(8), f(8),
          i([[1, 1, 0], [1, 1, 1]])], outputs=2, epsilon=1e-5)
    case("embed_layer_norm_positions", "EmbedLayerNormalization",
         [i([[1, 0, 4], [3, 2, 5]]), None, f(6, 8), f(5, 8), None, f(8), f(8), None, i([[4, 0, 1], [2, 2, 3]])],
         names=["y", "lengths", "sum"])


def rotary():
    ids = i([[3, 4, 5], [0, 1, 2]], np.int64)
    case("rotary", "RotaryEmbedding", [f(2, 3, 16), ids, f(9, 4), f(9, 4)])
    case("rotary_offset", "RotaryEmbedding", [f(2, 2, 3, 8), i([2], np.int64), f(9, 4), f(9, 4)], interleaved=1)
    case("rotary_partial", "RotaryEmbedding", [f(2, 3, 16), ids, f(9, 2), f(9, 2)],
         num_heads=2, rotary_embedding_dim=4)


def attention():
    x, w, b = f(2, 4, 6), f(6, 24), f(24)
    case("attention", "Attention", [x, w, b], num_heads=2)
    case("attention_mask", "Attention", [x, w, b, i([[1, 1, 1, 0], [1, 1, 0, 0]])], num_heads=2)
    case("attention_lengths", "Attention", [x, w, b, i([3, 2])], num_heads=2)
    case("attention_spans", "Attention", [x, w, b, i([4, 3, 1, 0])], num_heads=2)
    case("attention_causal_past", "Attention", [x, w, b, None, f(2, 2, 2, 3, 4)], 2, num_heads=2, unidirectional=1)
    case("attention_bias_3d", "Attention", [x, w, b, i(rng.integers(0, 2, (2, 4, 4))), None, f(1, 2, 4, 4)],
         num_heads=2, scale=0.3)
    case("attention_sizes", "Attention", [x, f(6, 20), f(20)], num_heads=2, qkv_hidden_sizes=[8, 8, 4])
    q, k, v = f(2, 3, 8), f(2, 5, 8), f(2, 5, 6)
    case("multi_head", "MultiHeadAttention", [q, k, v], num_heads=2)
    case("multi_head_bias_mask", "MultiHeadAttention", [q, k, v, f(22), i([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])],
         num_heads=2)
    case("multi_head_past", "MultiHeadAttention",
         [f(2, 3, 8), f(2, 3, 8), f(2, 3, 8), None, None, f(2, 2, 3, 5), f(2, 2, 2, 4), f(2, 2, 2, 4)], 3,
         num_heads=2, unidirectional=1)
    case("multi_head_cross", "MultiHeadAttention", [q, f(2, 2, 5, 4), f(2, 2, 5, 4)], num_heads=2, scale=0.4)


def group_query():
    def run(name, length, past, seqlens, packed=False, rotary=True, **attrs):
        q, k, v = f(2, length, 64), f(2, length, 32), f(2, length, 32)
        inputs = [np.concatenate([q, k, v], 2), None, None] if packed else [q, k, v]
        inputs += [f(2, 2, past, 16), f(2, 2, past, 16)] if past is not None else [None, None]
        inputs += [i(seqlens), np.array(max(seqlens) + 1, dtype=np.int32)]
        inputs += [f(16, 8), f(16, 8)] if rotary else []
        # Where sequences differ in length, what lies behind their ends in the cache is not specified.
        kept = 3 if len(set(seqlens)) == 1 else 1
        case(name, "GroupQueryAttention", inputs, 3, kept=kept, num_heads=4, kv_num_heads=2,
             do_rotary=int(rotary), **attrs)

    run("group_query_prompt", 5, 0, [4, 4])
    run("group_query_packed", 3, 0, [2, 2], packed=True, rotary_interleaved=1)
    run("group_query_decode", 1, 4, [4, 4])
    run("group_query_ragged", 1, 4, [4, 2])
    run("group_query_window", 6, 0, [5, 5], rotary=False, local_window_size=2)
    run("group_query_softcap", 3, 0, [2, 2], rotary=False, softcap=1.5, scale=0.8)


def products():
    case("fused_matmul", "FusedMatMul", [f(2, 3, 4), f(2, 5, 4)], transB=1, alpha=0.5)
    case("fused_matmul_batch", "FusedMatMul", [f(3, 2, 4), f(2, 4, 5)], transBatchA=1)
    case("fused_matmul_both", "FusedMatMul", [f(3, 2, 4), f(3, 2, 5)], transBatchA=1, transA=1, transBatchB=1)
    case("fused_gemm", "FusedGemm", [f(3, 4), f(5, 4), f(5)], transB=1, alpha=0.5, activation="LeakyRelu",
         activation_alpha=0.2)
    case("fused_conv", "FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4)], activation="Relu", pads=[1, 1, 1, 1])
    case("fused_conv_sum", "FusedConv", [f(1, 3, 6, 6), f(4, 3, 3, 3), f(4), f(1, 4, 4, 4)],
         activation="Clip", activation_params=[-0.5, 0.5])
    case("fused_conv_sigmoid", "FusedConv", [f(1, 2, 5), f(3, 2, 2)], activation="HardSigmoid",
         activation_params=[0.3, 0.4], strides=[2])


def inverses():
    case("inverse", "Inverse", [f(2, 3, 4, 4)])
    case("inverse_pivots", "Inverse", [np.array([[0, 2, 0], [0, 0, -4], [8, 0, 1]], np.float32)])


def removed():
    x = f(1, 2, 5, 6)
    case("affine", "Affine", [f(7)], domain="", opset=7, alpha=2.0, beta=-0.5)
    case("parametric_softplus", "ParametricSoftplus", [f(7)], domain="", opset=7, alpha=1.5, beta=2.0)
    case("scaled_tanh", "ScaledTanh", [f(7)], domain="", opset=7, alpha=1.5, beta=2.0)
    case("scale", "Scale", [f(2, 3)], domain="", opset=7, scale=-1.5)
    case("image_scaler", "ImageScaler", [x], domain="", opset=7, scale=2.0, bias=[0.25, -1.0])
    case("crop", "Crop", [x], domain="", opset=7, border=[1, 2, 3, 0])
    case("crop_scale", "Crop", [x], domain="", opset=7, border=[1, 2, 0, 0], scale=[2, 3])
    case("upsample", "Upsample", [f(1, 2, 2, 3)], domain="", opset=7, mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])


def main():
    for make in (activations, normalizations, rotary, attention, group_query, products, inverses, removed):
        make()
    text = f"Made by make.py with onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__} (MIT licence).\n"
    (HERE / "ORIGIN").write_text(text)


if __name__ == "__main__":
    main()
