"""Networks that no file is needed for: built here, with random weights, in the shapes that networks of today have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import convolutional, mobile, transformers, vision
from .builder import Network
from .quantized import to_int8


@dataclass(frozen=True)
class Entry:
    """A network of the suite."""

    make: Callable[..., Network]
    small: dict[str, int | tuple[int, ...]] = field(default_factory=dict)
    """Arguments for a network of the same structure that takes milliseconds: for tests."""
    int8: bool = False


NETWORKS = {
    "resnet18": Entry(convolutional.resnet18, {"size": 32, "width": 8}),
    "resnext50": Entry(convolutional.resnext50, {"size": 32, "width": 16, "groups": 8}),
    "densenet121": Entry(convolutional.densenet121, {"size": 32, "growth": 8, "blocks": (2, 2)}),
    "squeezenet": Entry(convolutional.squeezenet, {"size": 35, "width": 4}),
    "vgg11": Entry(convolutional.vgg11, {"size": 32, "width": 8}),
    "efficientnet_b0": Entry(mobile.efficientnet_b0, {"size": 32, "width": 1}),
    "mobilenet_v3": Entry(mobile.mobilenet_v3, {"size": 32, "width": 1}),
    "shufflenet_v1": Entry(mobile.shufflenet_v1, {"size": 32, "width": 48}),
    "shufflenet_v2": Entry(mobile.shufflenet_v2, {"size": 32, "width": 24}),
    "detector": Entry(vision.detector, {"size": 64, "width": 8}),
    "unet": Entry(vision.unet, {"size": 32, "width": 4}),
    "segmenter": Entry(vision.segmenter, {"size": 65, "width": 8}),
    "super_resolution": Entry(vision.super_resolution, {"size": 17, "width": 8, "blocks": 2}),
    "text_line": Entry(vision.text_line, {"length": 48, "width": 8, "hidden": 24}),
    "vit_small": Entry(transformers.vit_small, {"size": 48, "width": 48, "layers": 2, "heads": 3}),
    "bert": Entry(transformers.bert, {"tokens": 13, "width": 48, "layers": 2, "heads": 3, "words": 50}),
    "speech_encoder": Entry(transformers.speech_encoder, {"frames": 30, "width": 48, "layers": 2, "heads": 3}),
    "decoder_step": Entry(transformers.decoder_step, {"past": 9, "width": 48, "layers": 2, "heads": 3, "words": 70}),
    "resnet18_int8": Entry(convolutional.resnet18, {"size": 32, "width": 8}, int8=True),
    "mobilenet_v3_int8": Entry(mobile.mobilenet_v3, {"size": 32, "width": 1}, int8=True),
}
"""The suite, by name."""


def build(name: str, folder: Path, *, small: bool = False) -> Path:
    """The file of a network in `folder`, written unless it is there."""
    entry = NETWORKS[name]
    path = folder / f"{name}{'_small' if small else ''}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        network = entry.make(**(entry.small if small else {}))
        if entry.int8:
            to_int8(network, path)
        else:
            network.save(path)
    return path
