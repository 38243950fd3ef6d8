"""Transformers: images, text, speech, and one step of a decoder."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .builder import Network


def _heads(net: Network, x: str, heads: int, *, keys: bool = False) -> str:
    """[1, tokens, width] to [1, heads, tokens, width of a head], or with the last two axes exchanged."""
    width = net.width[x]
    split = net.reshape(x, [1, -1, heads, width // heads])
    return net.transpose(split, [0, 2, 3, 1] if keys else [0, 2, 1, 3])


def _attention(net: Network, x: str, heads: int, mask: str | None = None) -> str:
    """Self-attention with separate matrices, scores divided after the product."""
    width = net.width[x]
    query, key, value = (net.linear(x, width) for _ in range(3))
    scores = net.node("MatMul", _heads(net, query, heads), _heads(net, key, heads, keys=True))
    scores = net.node("Div", scores, net.constant((width // heads) ** 0.5))
    if mask:
        scores = net.node("Add", scores, mask)
    context = net.node("MatMul", net.node("Softmax", scores, axis=-1), _heads(net, value, heads))
    merged = net.reshape(net.transpose(context, [0, 2, 1, 3]), [1, -1, width], width)
    return net.linear(merged, width, 0.5)


def _merged_attention(net: Network, x: str, heads: int, tokens: int) -> str:
    """Self-attention with one matrix for queries, keys and values, scaled before the product."""
    width = net.width[x]
    head = width // heads
    merged = net.reshape(net.linear(x, 3 * width), [1, tokens, 3, heads, head])
    merged = net.transpose(merged, [2, 0, 3, 1, 4])
    query, key, value = (net.node("Gather", merged, net.constant(i, np.int64), axis=0) for i in range(3))
    query = net.node("Mul", query, net.constant(head**-0.5))
    scores = net.node("MatMul", query, net.transpose(key, [0, 1, 3, 2]))
    context = net.node("MatMul", net.node("Softmax", scores, axis=-1), value)
    merged = net.reshape(net.transpose(context, [0, 2, 1, 3]), [1, tokens, width], width)
    return net.linear(merged, width, 0.5)


def vit_small(size: int = 224, width: int = 384, layers: int = 12, heads: int = 6) -> Network:
    """Patches of 16 × 16 pixels as tokens, after Dosovitskiy et al. (2021) and Touvron et al. (2021)."""
    net = Network("vit_small")
    image = net.input("image", [1, 3, size, size], 3)
    weights = net.weights([width, 3, 16, 16], 768, 1.0)
    x = net.node("Conv", image, weights, net.random([width], 0.1), width=width, kernel_shape=[16] * 2, strides=[16] * 2)
    tokens = (size // 16) ** 2 + 1
    x = net.transpose(net.reshape(x, [1, width, tokens - 1]), [0, 2, 1], width)
    x = net.node("Concat", net.random([1, 1, width], 0.5), x, width=width, axis=1)
    x = net.add(x, net.random([1, tokens, width], 0.5))
    for _ in range(layers):
        x = net.add(x, _merged_attention(net, net.layer_norm(x), heads, tokens))
        inner = net.gelu(net.linear(net.layer_norm(x), 4 * width))
        x = net.add(x, net.linear(inner, width, 0.5))
    first = net.node("Gather", net.layer_norm(x), net.constant(0, np.int64), width=width, axis=1)
    net.output(net.dense(first, 1000), "logits")
    return net


def _spelled_layer_norm(net: Network, x: str) -> str:
    """Layer normalization in the nine operators that exporters wrote before there was one."""
    difference = net.node("Sub", x, net.node("ReduceMean", x, axes=[-1]))
    variance = net.node("ReduceMean", net.node("Pow", difference, net.constant(2.0)), axes=[-1])
    deviation = net.node("Sqrt", net.node("Add", variance, net.constant(1e-12)))
    normal = net.node("Div", difference, deviation)
    n = [net.width[x]]
    return net.node("Add", net.node("Mul", normal, net.random(n, 0.1, 1.0)), net.random(n, 0.1))


def bert(tokens: int = 128, width: int = 768, layers: int = 4, heads: int = 12, words: int = 4000) -> Network:
    """Layers of BERT-base with a mask, after Devlin et al. (2019), any number of tokens."""
    net = Network("bert", opset=13)
    ids = net.input("ids", [1, tokens], kind=TensorProto.INT64)
    mask = net.input("mask", [1, tokens], kind=TensorProto.INT64)
    x = net.node("Gather", net.random([words, width], 0.5), ids, width=width)
    x = _spelled_layer_norm(net, net.add(x, net.random([1, tokens, width], 0.5)))
    real = net.node("Cast", net.node("Unsqueeze", mask, net.constant([1, 2], np.int64)), to=TensorProto.FLOAT)
    bias = net.node("Mul", net.node("Sub", net.constant(1.0), real), net.constant(-10000.0))
    for _ in range(layers):
        x = _spelled_layer_norm(net, net.add(_attention(net, x, heads, bias), x))
        inner = net.gelu(net.linear(x, 4 * width))
        x = _spelled_layer_norm(net, net.add(net.linear(inner, width, 0.5), x))
    net.output(x, "states")
    first = net.node("Gather", x, net.constant(0, np.int64), width=width, axis=1)
    net.output(net.node("Tanh", net.dense(first, width)), "pooled")
    return net


def speech_encoder(frames: int = 3000, width: int = 384, layers: int = 4, heads: int = 6) -> Network:
    """Two convolutions over time and a transformer on 1500 tokens, after Radford et al. (2022), Whisper tiny."""
    net = Network("speech_encoder")
    x = net.input("mel", [1, 80, frames], 80)
    for stride in (1, 2):
        weights = net.weights([width, net.width[x], 3], 3 * net.width[x])
        bias = net.random([width], 0.1)
        x = net.node("Conv", x, weights, bias, width=width, kernel_shape=[3], strides=[stride], pads=[1, 1])
        x = net.gelu(x)
    x = net.add(net.transpose(x, [0, 2, 1]), net.random([frames // 2, width], 0.5))
    for _ in range(layers):
        x = net.add(x, _attention(net, net.layer_norm(x), heads))
        inner = net.gelu(net.linear(net.layer_norm(x), 4 * width))
        x = net.add(x, net.linear(inner, width, 0.5))
    net.output(net.layer_norm(x), "states")
    return net


def _gelu_tanh(net: Network, x: str) -> str:
    """The approximation of GELU by tanh, as it is spelled."""
    cube = net.node("Pow", x, net.constant(3.0))
    inner = net.node("Add", x, net.node("Mul", cube, net.constant(0.044715)))
    bent = net.node("Tanh", net.node("Mul", inner, net.constant((2 / 3.141592653589793) ** 0.5)))
    return net.node("Mul", net.node("Mul", x, net.constant(0.5)), net.node("Add", bent, net.constant(1.0)))


def decoder_step(past: int = 256, width: int = 512, layers: int = 6, heads: int = 8, words: int = 16000) -> Network:
    """One token of a decoder with keys and values of those before, after Radford et al. (2019), GPT-2."""
    net = Network("decoder_step")
    token = net.input("token", [1, 1], kind=TensorProto.INT64)
    head = width // heads
    caches = [
        (net.input(f"key_{i}", [1, heads, past, head]), net.input(f"value_{i}", [1, heads, past, head]))
        for i in range(layers)
    ]
    x = net.node("Gather", net.random([words, width], 0.3), token, width=width)
    x = net.add(x, net.random([1, 1, width], 0.3))
    for i, (past_keys, past_values) in enumerate(caches):
        query, key, value = net.split(net.linear(net.layer_norm(x), 3 * width), [width] * 3, axis=2)
        keys = net.node("Concat", past_keys, _heads(net, key, heads), axis=2)
        values = net.node("Concat", past_values, _heads(net, value, heads), axis=2)
        net.output(keys, f"new_key_{i}")
        net.output(values, f"new_value_{i}")
        scores = net.node("MatMul", _heads(net, query, heads), net.transpose(keys, [0, 1, 3, 2]))
        weights = net.node("Softmax", net.node("Div", scores, net.constant(head**0.5)), axis=-1)
        context = net.transpose(net.node("MatMul", weights, values), [0, 2, 1, 3])
        x = net.add(x, net.linear(net.reshape(context, [1, 1, width], width), width, 0.5))
        inner = _gelu_tanh(net, net.linear(net.layer_norm(x), 4 * width))
        x = net.add(x, net.linear(inner, width, 0.5))
    logits = net.node("MatMul", net.layer_norm(x), net.weights([width, words], width, 1.0), width=words)
    net.output(logits, "logits")
    return net
