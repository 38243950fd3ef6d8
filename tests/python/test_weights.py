"""Weights in few bits: smaller folders with nearly the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
from conftest import path_of, reseal

import optimium.runtime as rt

Weights = Literal["bf16", "int8", "int4"]

# The largest error of a result, relative to the largest result: that of weights that are rounded one by one, through two layers.
TOLERANCES: dict[Weights, float] = {"bf16": 0.01, "int8": 0.015, "int4": 0.2}
# Bits of an element, scales and the rest of the folder included, at most.
BITS: dict[Weights, float] = {"bf16": 17, "int8": 9, "int4": 5}


def embedded(path: Path, rows: int = 3) -> np.ndarray:
    """What the model at `path` makes of some indices."""
    model = rt.load_model(path, threads=1)
    indices = np.arange(rows, dtype=np.int64) * 7
    output = np.full((rows, 96), np.nan, np.float32)
    request = model.create_request()
    request.infer([indices], [output])
    request.wait()
    return output


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.name != "graph.json")


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("pack", [True, False])
def test_compressed_folders(tmp_path: Path, weights: Weights, pack: bool) -> None:
    whole = rt.convert(path_of("embedder"), tmp_path / "whole", pack=pack)
    assert whole.compressed_weights == whole.bytes_before == whole.bytes_after == 0
    done = rt.convert(path_of("embedder"), tmp_path / "small", pack=pack, weights=weights)
    elements = 320 * 64 + 64 * 384 + 384 * 96
    assert (done.compressed_weights, done.bytes_before) == (3, 4 * elements)
    assert done.bytes_after <= elements * BITS[weights] / 8
    assert size(tmp_path / "small") <= size(tmp_path / "whole") * (BITS[weights] + 2) / 32
    for rows in (1, 3, 40):
        expected, found = embedded(tmp_path / "whole", rows), embedded(tmp_path / "small", rows)
        assert np.abs(found - expected).max() <= TOLERANCES[weights] * np.abs(expected).max()
        assert np.abs(found - expected).max() > 0


def test_models_without_large_weights_stay(tmp_path: Path) -> None:
    done = rt.convert(path_of("classifier"), tmp_path / "model", weights="int4")
    assert done.compressed_weights == 0
    assert "Conversion(compressed_weights=0" in repr(done)


def test_unknown_weights_are_refused(tmp_path: Path) -> None:
    for wrong in ("int2", "", "INT8"):
        with pytest.raises(rt.InvalidArgumentError, match="bf16, int8, int4"):
            rt.convert(path_of("embedder"), tmp_path / "model", weights=cast(Any, wrong))
    with pytest.raises(rt.TypeError):
        rt.convert(path_of("embedder"), tmp_path / "model", weights=cast(Any, 8))
    assert not (tmp_path / "model").exists()


def test_command_line(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    from test_cli import optimium

    done = optimium("convert", path_of("embedder"), "-o", tmp_path / "model", "--weights", "int8")
    assert done.exit_code == 0, done.output
    assert "compressed 3 weights from 0.3 to 0.1 MB" in done.output
    assert np.isfinite(embedded(tmp_path / "model")).all()
    refused = optimium("convert", path_of("embedder"), "-o", tmp_path / "other", "--weights", "int3")
    assert refused.exit_code == 2 and all(name in refused.output for name in ("bf16", "int8", "int4"))


def test_hostile_blocks_are_errors(tmp_path: Path) -> None:
    rt.convert(path_of("embedder"), tmp_path / "model", weights="int4", pack=False)
    graph = tmp_path / "model" / "graph.json"
    text = graph.read_text()
    assert '"block_size":32' in text and '"k":384' in text
    changes = [('"block_size":32', f'"block_size":{block}') for block in (0, 1, 8, 16, 48, 64, 2**63, 2**64 - 16)]
    changes += [('"k":384', f'"k":{k}') for k in (0, 1, 352, 2**63, 2**64 - 1)]
    changes += [('"encoding":"int4"', f'"encoding":"{other}"') for other in ("int8", "bf16", "int2")]
    for old, new in changes:
        graph.write_text(text.replace(old, new))
        reseal(tmp_path / "model")
        with pytest.raises((rt.ContainerError, rt.ModelError, rt.ShapeError)):
            embedded(tmp_path / "model")
    graph.write_text(text)
    reseal(tmp_path / "model")
    assert np.isfinite(embedded(tmp_path / "model")).all()
