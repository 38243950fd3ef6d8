"""The tables of the command line on terminals of any width."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("typer")

from rich.console import Console

from optimium.runtime.cli import _tables

ROWS = {
    "/blocks/blocks.1/blocks.1.0/bn1/act/Clip": "pointwise 1x1, 6x64 tile at avx512, k 16, n 96 + clip",
    "/a[b]/Gemm": "gemm",
}


def _lines(width: int) -> list[str]:
    table = _tables.table("layers", "layer", "µs", "kernel", figures=("µs",))
    for name, kernel in ROWS.items():
        table.add_row(_tables.Name(name), "12345.6", _tables.remark(kernel))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table, markup=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 60, 80, 200, 100_000])
def test_a_row_is_a_line(width: int) -> None:
    lines = _lines(width)
    assert len(lines) == 2 + len(ROWS)
    assert all(len(line) <= width and "12345.6" in line for line in lines[2:])
    assert "/Clip" in lines[2] and "gemm" in lines[3], "names keep their ends, and what fits is whole"


def test_nothing_is_left_out_where_there_is_room() -> None:
    for line, (name, kernel) in zip(_lines(200)[2:], ROWS.items(), strict=True):
        assert name in line and kernel in line
