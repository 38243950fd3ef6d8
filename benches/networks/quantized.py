"""Integer versions of networks, with the quantization tools of ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx

from .builder import Network


def to_int8(net: Network, path: Path) -> None:
    """Writes the network to `path` with quantize-dequantize pairs: unsigned activations, signed weights for each channel.

    Ranges are those of a few random images. Needs onnxruntime.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    (image,) = net.model().graph.input
    shape = [dimension.dim_value for dimension in image.type.tensor_type.shape.dim]
    random = np.random.default_rng(1)

    class Images(CalibrationDataReader):  # type: ignore[misc]
        left = 4

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return {image.name: random.standard_normal(shape, np.float32)} if self.left >= 0 else None

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(net.model()), str(source))
        quantize_static(
            str(source),
            str(path),
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
