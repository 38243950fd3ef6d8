"""Model folders with packed weights: the same results as without, whatever becomes of the packed file."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import processes
import pytest
from conftest import path_of, reseal
from inference import infer

import optimium.runtime as rt

MODELS = ["affine", "classifier", "lookup", "pair", "quantized", "slow"]
SIZES = {"batch": 2, "height": 9, "width": 8, "n": 5}


def packed_file(folder: Path) -> Path | None:
    found = list(folder.glob("packed.*.bin"))
    assert len(found) <= 1
    return found[0] if found else None


def results(path: Path) -> list[np.ndarray]:
    """The outputs for inputs that are always the same."""
    model = rt.load_model(path, threads=1)
    rnd, inputs = np.random.default_rng(0), {}
    for name in model.input_names:
        info = model.get_tensor(name)
        dims = [dim if isinstance(dim, int) else SIZES.get(str(dim), 3) for dim in info.shape]
        is_index = info.type == rt.ElementType.I64
        drawn = rnd.integers(0, 3, dims) if is_index else rnd.standard_normal(dims)
        inputs[name] = drawn.astype(np.int64 if is_index else np.float32)
    return list(infer(model, inputs).values())


def identical(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_results_are_the_same(tmp_path: Path, name: str) -> None:
    rt.convert(path_of(name), tmp_path / "packed")
    rt.convert(path_of(name), tmp_path / "plain", pack=False)
    assert packed_file(tmp_path / "packed") is not None
    assert packed_file(tmp_path / "plain") is None
    assert identical(results(tmp_path / "packed"), results(tmp_path / "plain"))
    assert identical(results(tmp_path / "packed"), results(path_of(name)))


LEVELS = """
import sys
from pathlib import Path
from test_packed import *
folder = Path(sys.argv[1])
for name in MODELS:
    try:
        rt.convert(path_of(name), folder / f"{name}.packed")
    except rt.RuntimeException:
        continue
    rt.convert(path_of(name), folder / name, pack=False)
    assert identical(results(folder / f"{name}.packed"), results(folder / name)), name
"""


@pytest.mark.parametrize("level", ["portable", "neon", "avx2", "avx512", "avx512vnni"])
def test_results_are_the_same_at_every_level(tmp_path: Path, level: str) -> None:
    done = processes.run(LEVELS, tmp_path, OPTIMIUM_RT_INSTRUCTION_SET=level)
    if "is not available here" in done.stderr:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stderr
    files = {packed_file(folder).name for folder in tmp_path.glob("*.packed") if packed_file(folder)}
    assert files <= {f"packed.{level}.bin"}


def test_damage_is_refused_or_passed_over(tmp_path: Path) -> None:
    rt.convert(path_of("classifier"), tmp_path / "whole")
    expected, rnd = results(tmp_path / "whole"), random.Random(0)
    for number in range(60):
        folder = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", folder)
        file = packed_file(folder)
        assert file is not None
        content = bytearray(file.read_bytes())
        if number % 3 == 0:
            del content[rnd.randrange(len(content)) :]
        else:
            content[rnd.randrange(128 if number % 3 == 1 else 1000)] ^= 1 << rnd.randrange(8)
        file.write_bytes(content)
        if number % 3 == 0:
            with pytest.raises(rt.ContainerError):
                rt.load_model(folder)
        if number % 2:
            reseal(folder)
        elif number % 3 == 0:
            continue
        assert identical(results(folder), expected), number


def test_packed_weights_of_another_model_are_passed_over(tmp_path: Path) -> None:
    for name in ("classifier", "affine"):
        rt.convert(path_of(name), tmp_path / name)
    expected = results(tmp_path / "classifier")
    theirs, ours = packed_file(tmp_path / "affine"), packed_file(tmp_path / "classifier")
    assert theirs is not None and ours is not None
    shutil.copy(theirs, ours)
    reseal(tmp_path / "classifier")
    assert identical(results(tmp_path / "classifier"), expected)
