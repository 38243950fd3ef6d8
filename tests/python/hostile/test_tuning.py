"""Tuning whose folder, sizes and callbacks are against it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import path_of, reseal
from hostile.common import HUGE, assert_clean, in_new_process
from test_packed import packed_file, results
from test_tune import put

import optimium.runtime as rt

SIZES = {"height": 9, "width": 8}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rt.convert(path_of("classifier"), tmp_path / "model")
    return tmp_path / "model"


def tune(folder: Path, progress: Callable[[str, float], object] | None = None) -> rt.TuneReport:
    return rt.tune_model(folder, threads=1, sizes=SIZES, seconds=0, progress=progress)


@pytest.mark.parametrize("size", [-1, 2**63, 2**64, "4", 1.5, None])
def test_impossible_sizes(tmp_path: Path, size: object) -> None:
    rt.convert(path_of("pair"), tmp_path / "model")
    with pytest.raises((rt.InvalidArgumentError, rt.ShapeError, rt.TypeError)):
        rt.tune_model(tmp_path / "model", sizes={"n": size}, seconds=0)  # type: ignore[dict-item]


def test_inputs_of_terabytes(tmp_path: Path) -> None:
    rt.convert(path_of("pair"), tmp_path / "model")
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        f"try: rt.tune_model(sys.argv[1], threads=1, sizes={{'n': {HUGE}}}, seconds=0)\n"
        "except rt.RuntimeException as error: print(type(error).__name__)"
    )
    assert assert_clean(in_new_process(code, tmp_path / "model")) in ("OutOfResourceError\n", "ShapeError\n")


@pytest.mark.parametrize("moment", ["reading", "confirming", "storing"])
def test_a_folder_that_is_gone_is_not_made_again(folder: Path, moment: str) -> None:
    def remove(what: str, done: float) -> None:
        if what == moment:
            shutil.rmtree(folder, ignore_errors=True)

    with suppress(rt.ContainerError):
        tune(folder, remove)
    assert not list(folder.parent.iterdir())


def test_other_files_stay(folder: Path) -> None:
    (folder / "notes").write_text("text")
    (folder.parent / "link").symlink_to(folder)
    told: list[str] = []
    with pytest.raises(rt.ContainerError, match="notes"):
        tune(folder.parent / "link", lambda what, _: told.append(what))
    assert told == ["reading"], "it is refused before anything is measured"
    assert (folder / "notes").read_text() == "text" and (folder.parent / "link").is_symlink()
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["link", "model"]


def test_the_runtime_ends_meanwhile(folder: Path) -> None:
    code = (
        "try: rt.tune_model(sys.argv[1], threads=1, seconds=0, sizes=dict(height=9, width=8),\n"
        "    progress=lambda *_: rt.finalize())\n"
        "except rt.RuntimeException: pass\n"
        "rt.initialize(); print(rt.load_model(sys.argv[1]).name)"
    )
    assert assert_clean(in_new_process(code, folder)).endswith("classifier\n")


def test_tuning_within_tuning(folder: Path) -> None:
    reports = []

    def again(what: str, done: float) -> None:
        if what != "reading" and not reports:
            reports.append(None)
            reports.append(tune(folder))

    assert tune(folder, again).choices == reports[1].choices


def test_several_at_once(folder: Path) -> None:
    with ThreadPoolExecutor(3) as callers:
        list(callers.map(tune, [folder] * 6))
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]
    assert results(folder)


def test_forks_and_exits_meanwhile(folder: Path) -> None:
    code = (
        "tune = lambda seconds: rt.tune_model(sys.argv[1], threads=1, seconds=seconds, sizes=dict(height=9, width=8))\n"
        "threading.Thread(target=tune, args=(20,), daemon=True).start(); time.sleep(0.2)\n"
        "child = os.fork()\n"
        "if child == 0:\n    signal.alarm(10); tune(0); os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])"
    )
    assert assert_clean(in_new_process(code, folder)) == "0\n"


@pytest.mark.parametrize("replace", [os.mkfifo, lambda file: file.symlink_to("/etc/hostname")], ids=["pipe", "link"])
def test_a_tuned_file_that_is_no_file(folder: Path, replace: Callable[[Path], None]) -> None:
    put(folder, "damaged")
    (folder / "tuned.json").unlink()
    replace(folder / "tuned.json")
    for use in (results, tune):
        with pytest.raises(rt.ContainerError, match=r"tuned\.json"):
            use(folder)


def test_a_file_of_that_name_that_is_something_else(folder: Path) -> None:
    put(folder, "precious")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][-1]["role"] = "other"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with suppress(rt.ContainerError):
        tune(folder)
    assert (folder / "tuned.json").read_text() == "precious"


def test_weights_that_are_called_as_packed_ones(folder: Path) -> None:
    file = packed_file(folder)
    assert file is not None
    file.unlink()
    (folder / "weights.bin").rename(file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [entry for entry in manifest["files"] if entry["role"] != "packed"]
    for entry in manifest["files"]:
        entry["name"] = entry["name"].replace("weights.bin", file.name)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    graph = folder / "graph.json"
    graph.write_text(graph.read_text().replace("weights.bin", file.name))
    reseal(folder)
    expected = results(folder)
    tune(folder)
    assert all((a == b).all() for a, b in zip(results(folder), expected, strict=True))
