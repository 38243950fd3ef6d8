"""The snippets of a page: `python` blocks, and the lines of `sh` blocks that call `optimium`.

Blocks of a page share a namespace. A `text` block right behind a `python` block is what it prints; `...` in it stands for anything.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What makes commands quick that take their time otherwise; the last of two equal options counts.
QUICK = {"tune": ["--seconds", "0.1"], "profile": ["--repeat", "3", "--warmup", "1", "--warmup-time", "0"]}
#: Names that pages use for a model of the reader's.
STAND_INS = {"model.onnx": "classifier.onnx", "mobilenetv2.onnx": "image.onnx"}


@dataclass
class Block:
    """A fenced block: its language, its text, the line that the text begins at, and the text block right behind it."""

    language: str
    text: str
    line: int
    output: str | None = None


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    end = -1
    for fence in FENCE.finditer(page):
        if fence[1] == "text":
            if found and not page[end : fence.start()].strip():
                found[-1].output = fence[2]
            continue
        found.append(Block(fence[1], fence[2], page.count("\n", 0, fence.start(2)) + 1))
        end = fence.end()
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The calls of `optimium`, without the name."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "optimium":
            yield words[1:] + QUICK.get(words[1], [])


def prepare(folder: Path, root: Path) -> None:
    """Puts the models there that pages use."""
    for model in (root / "tests/python/models").glob("*.onnx"):
        shutil.copy(model, folder)
    for name, model in STAND_INS.items():
        shutil.copy(folder / model, folder / name)
    (folder / "examples/digits").mkdir(parents=True)
    shutil.copy(root / "examples/digits/digits.onnx", folder / "examples/digits")


def run(page: Path) -> None:
    """Runs the snippets of a page, in this process and the current folder."""
    from optimium.runtime.cli._app import app
    from typer.testing import CliRunner

    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.language == "python":
            # The lines of tracebacks are those of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            if block.output is not None:
                compare(block.output, printed.getvalue(), f"{page}:{block.line}")
        elif block.language == "sh":
            for words in commands(block.text):
                done = CliRunner().invoke(app, words)
                assert done.exit_code == 0, f"{page}:{block.line}: optimium {' '.join(words)}: {done.output}"


def compare(expected: str, printed: str, place: str) -> None:
    """Fails where a text is not the expected one."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    assert re.fullmatch(pattern, printed, re.DOTALL), f"{place}: printed\n{printed}instead of\n{expected}"


if __name__ == "__main__":
    run(Path(sys.argv[1]))
