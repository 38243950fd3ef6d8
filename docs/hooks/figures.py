"""Figures of the site: `<!-- figure: NAME -->` becomes the picture `docs/figures/NAME.svg`, or the chart that is drawn here.

Pictures stand in the page itself, so that they take the colours of its theme.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
DIRECTIVE = re.compile(r"^<!-- figure: ([\w-]+) -->$", re.MULTILINE)
#: A row of the comparison: network, threads, …, ratio, of limit, apart.
ROW = re.compile(r"^\| (\w+) \| (\d+) \|.* ([\d.]+) \| \d+% \| [\de+-]+ \|$", re.MULTILINE)

WIDTH, LEFT, RIGHT, BAR, STEP, TOP = 760, 140, 60, 14, 22, 34


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by MkDocs for every page."""
    return DIRECTIVE.sub(lambda found: _figure(found[1]), markdown)


def _figure(name: str) -> str:
    svg = _ratios() if name == "ratios" else (DOCS / "figures" / f"{name}.svg").read_text()
    return f'<figure class="chart">{"".join(line.strip() for line in svg.splitlines())}</figure>'


def ratios() -> list[tuple[str, float]]:
    """The networks of the suite with one thread, and how many times the fastest rival's time is this runtime's."""
    text = (DOCS / "performance.md").read_text()
    suite = text[text.index("The networks of the suite") : text.index("Networks from elsewhere")]
    rows = [(network, float(ratio)) for network, threads, ratio in ROW.findall(suite) if threads == "1"]
    return sorted(rows, key=lambda row: -row[1])


def _ratios() -> str:
    rows = ratios()
    largest = max(ratio for _, ratio in rows)
    scale = (WIDTH - LEFT - RIGHT) / largest
    bottom = TOP + STEP * len(rows)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {bottom + 8}" role="img" aria-label="Speed beside the fastest rival, network by network">',
        f'<text class="quiet" x="{LEFT + scale:.1f}" y="14" text-anchor="middle">the fastest rival</text>',
        f'<line class="one" x1="{LEFT + scale:.1f}" x2="{LEFT + scale:.1f}" y1="20" y2="{bottom}"/>',
    ]
    for number, (network, ratio) in enumerate(rows):
        y = TOP + STEP * number
        middle = y + BAR / 2 + 4.5
        kind = "bar" if ratio >= 1 else "behind"
        parts += [
            f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end">{network}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{scale * ratio:.1f}" height="{BAR}" rx="2"/>',
            f'<text x="{LEFT + scale * ratio + 8:.1f}" y="{middle}">{ratio:.2f}×</text>',
        ]
    return "".join([*parts, "</svg>"])
