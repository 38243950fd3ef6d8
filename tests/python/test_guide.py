"""The documents: every snippet runs, and the reference has every name."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path

import processes
import pytest
import snippets

pytest.importorskip("typer")
pytest.importorskip("rich")

import optimium.runtime as rt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUN = "import os, sys; os.chdir(sys.argv[2]); import snippets, pathlib; snippets.run(pathlib.Path(sys.argv[1]))"


def has_snippets(page: Path) -> bool:
    found = snippets.blocks(page.read_text())
    return any(block.language == "python" or list(snippets.commands(block.text)) for block in found)


@pytest.mark.parametrize("page", list(filter(has_snippets, PAGES)), ids=lambda page: str(page.relative_to(ROOT)))
def test_snippets(page: Path, tmp_path: Path) -> None:
    snippets.prepare(tmp_path, ROOT)
    done = processes.run(RUN, page, tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def exceptions() -> set[str]:
    return {name for name, value in vars(rt).items() if isinstance(value, type) and issubclass(value, BaseException)}


def test_the_reference_is_complete() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: optimium\.runtime\.(\w+)$", pages, re.MULTILINE))
    aliases = dict(re.findall(r"`rt\.(\w+)` \| `(\w+)`", pages))
    assert set(rt.__all__) | exceptions() <= documented | aliases.keys()
    assert documented <= set(dir(rt)) | {"profile", "report"}
    for alias, member in aliases.items():
        assert getattr(rt, alias) is rt.ElementType[member]


def test_everything_public_is_described() -> None:
    silent = []
    for name in {*rt.__all__, *exceptions()}:
        value = getattr(rt, name)
        if not isinstance(value, (type, types.ModuleType)) and not callable(value):
            continue
        members = vars(value).items() if isinstance(value, type) else ()
        own = {f"{name}.{member}": it for member, it in members if not member.startswith("_") and described(it)}
        silent += [path for path, it in {name: value, **own}.items() if not inspect.getdoc(it)]
    assert not silent


def described(member: object) -> bool:
    kinds = types.FunctionType, types.MethodDescriptorType, types.GetSetDescriptorType, property, staticmethod, classmethod
    return isinstance(member, kinds)
