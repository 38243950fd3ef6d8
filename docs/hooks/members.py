"""Members of enumerations: `<!-- members: NAME -->` becomes a line that lists them, read from the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "python/optimium/runtime/_types.py"
DIRECTIVE = re.compile(r"^<!-- members: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for every page."""
    return DIRECTIVE.sub(lambda found: f"Members: {', '.join(f'`{name}`' for name in members()[found[1]])}", markdown)


@cache
def members() -> dict[str, list[str]]:
    """The names of the members of every enumeration."""
    classes = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.ClassDef)]
    enumerations = [node for node in classes if any(getattr(base, "id", "") == "_Names" for base in node.bases)]
    return {node.name: list(_assigned(node)) for node in enumerations}


def _assigned(node: ast.ClassDef) -> list[str]:
    return [target.id for it in node.body if isinstance(it, ast.Assign) for target in it.targets if isinstance(target, ast.Name)]
