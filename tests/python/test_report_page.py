"""The page of a profile: what is in it, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import profiles
import pytest

from optimium.runtime import report
from optimium.runtime.report import Profile
from optimium.runtime.report.page import live_bytes, page, page_data, typical_inference

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=1>"

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class _Structure(HTMLParser):
    """The elements' tags, and the content of those that have an id or hold scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attributes)
        self.ids.add(named.get("id") or "")
        self.links += [value for name, value in attributes if name in ("src", "href") and value]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


def many_layers(count: int) -> Profile:
    layers = [replace(profiles.CONV, name=f"block_{index}/conv", operator=f"Kind{index % 9}") for index in range(count)]
    return profiles.profile(*layers, durations=(1000 * count, 1010 * count, 1030 * count))


def test_pages_need_nothing_else() -> None:
    text = page(profiles.profile())
    structure = _Structure(text)
    assert structure.links == []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "{{" not in text
    assert {"model", "operators", "layers", "timeline", "memory-live", "memory-map", "table", "comparison"} <= structure.ids
    assert json.loads(structure.scripts[0]) == json.loads(json.dumps(page_data(profiles.profile())))


def test_names_cannot_leave_the_data() -> None:
    text = page(profiles.profile(replace(profiles.CONV, name=HOSTILE), source=f"{HOSTILE}.onnx"))
    structure = _Structure(text)
    assert len(structure.scripts) == 2
    assert "img" not in structure.tags
    assert HOSTILE in json.loads(structure.scripts[0])["layers"][0]["name"]


def test_pages_show_a_typical_inference() -> None:
    profile = profiles.profile()
    spans = typical_inference(profile)
    assert {span.activity for span in spans} == {"MODEL_EXECUTE", "LAYER_EXECUTE"}
    assert [span.end - span.start for span in spans if span.activity == "MODEL_EXECUTE"] == [1500]
    assert len(spans) == 4


def test_memory_in_use_follows_the_plan() -> None:
    assert live_bytes(profiles.profile()) == [4096, 4096, 4096]
    assert page_data(profiles.profile())["memory"]["arena"] == 4096


def opened(text: str, folder: Path) -> str:
    """The page as a browser has it after its scripts ran."""
    if BROWSER is None:
        pytest.skip("there is no browser here")
    file = folder / "report.html"
    file.write_text(text, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--window-size=1280,2000"]
    folders = [f"--user-data-dir={folder / 'browser'}", "--enable-logging=stderr"]
    command = [BROWSER, *options, *folders, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    return done.stdout


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_browsers_show_models_of_any_size(tmp_path: Path, count: int) -> None:
    structure = _Structure(opened(page(many_layers(count)), tmp_path))
    assert structure.tags.count("tr") == count + 2
    assert structure.tags.count("canvas") == 1
    assert structure.tags.count("svg") == 4
    # An area for each layer, its bar, and the bar's solid part.
    assert structure.tags.count("rect") >= 3 * count


def test_browsers_show_comparisons_and_names_as_they_are(tmp_path: Path) -> None:
    before, after = profiles.profile(), profiles.profile(replace(profiles.CONV, name=HOSTILE), profiles.RELU)
    text = opened(page(after, report.compare(before, after)), tmp_path)
    structure = _Structure(text)
    assert "img" not in structure.tags
    assert "script&gt;&lt;script&gt;document.title='taken'" in text
    assert "only in the baseline" in text and "only here" in text
    assert "<title>taken" not in text


ACTIONS = """
const input = document.getElementById("search");
input.value = "KIND3";
input.dispatchEvent(new Event("input"));
document.querySelectorAll("#table th button")[1].click();
const canvas = document.querySelector("canvas");
const box = canvas.getBoundingClientRect();
const at = (type, part) => new MouseEvent(type, { clientX: box.left + part * box.width, clientY: box.top + 10, bubbles: true });
canvas.dispatchEvent(at("mousedown", 0.4));
dispatchEvent(at("mousemove", 0.6));
dispatchEvent(at("mouseup", 0.6));
canvas.dispatchEvent(at("mousemove", 0.5));
"""


def test_tables_are_searched_and_sorted_and_timelines_enlarged(tmp_path: Path) -> None:
    text = page(many_layers(30))
    shown = opened(text.replace("</body>", f"<script>{ACTIONS}</script></body>"), tmp_path)
    table = shown[shown.index('id="table"') : shown.index("<footer")]
    names = re.findall(r"block_(\d+)/<wbr>conv", table)
    assert names == ["3", "12", "21"]
    assert "3 of 30" in shown
    assert 'aria-sort="ascending"' in table
    assert re.search(r'id="timeline-all" type="button">', shown)
    tip = re.search(r'<div id="tip"[^>]*>([^<]*)<', shown)
    assert tip is not None and "from" in tip.group(1) and "block_" in tip.group(1)
