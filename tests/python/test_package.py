"""The package as such: its names, its stubs, its neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import optimium.runtime as rt

PACKAGE = Path(rt.__file__).parent


def test_names() -> None:
    assert all(hasattr(rt, name) for name in rt.__all__)
    assert (PACKAGE / "py.typed").is_file()


def test_the_namespace_is_shared(tmp_path: Path) -> None:
    (tmp_path / "optimium" / "neighbour").mkdir(parents=True)
    (tmp_path / "optimium" / "neighbour" / "__init__.py").write_text("import optimium.runtime as rt\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(PACKAGE.parents[1])!r}]; import optimium.neighbour"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_stubs_fit_the_module(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    root = PACKAGE.parents[1]
    # mypy finds installed packages by itself, and refuses to be told where they are.
    search_path = {} if root.name == "site-packages" else {"MYPYPATH": str(root), "PYTHONPATH": str(root)}
    allowlist = Path(__file__).parent / "stubtest_allowlist.txt"
    options = ["--ignore-missing-stub", "--allowlist", str(allowlist), "--ignore-unused-allowlist"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "optimium.runtime._native", *options],
        env={**os.environ, **search_path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_show_versions(capsys: pytest.CaptureFixture[str]) -> None:
    rt.show_versions()
    printed = capsys.readouterr().out
    assert rt.__version__ in printed
    for device in rt.get_local_info().devices:
        features = ", ".join(map(str, getattr(device.capability, "features", ())))
        assert f"device {device}: {features}\n" in printed
