"""`optimium profile`, run in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import path_of

pytest.importorskip("typer")

from typer.testing import CliRunner, Result

from optimium.runtime.cli._app import app

QUICK = ["--repeat", 4, "--warmup", 1, "--warmup-time", 0, "--threads", 1]


def profile(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["profile", *(str(argument) for argument in arguments)])


def test_layers_are_listed() -> None:
    done = profile(path_of("classifier"), *QUICK, "--size", "batch=2", "--size", "height=8", "--size", "width=8")
    assert done.exit_code == 0, done.output
    for text in ("classifier.onnx: input_0 2x3x8x8; 1 thread, f32", "ReduceMean", "softmax", "limit", "between layers"):
        assert text in done.output
    assert "4 inferences" in done.output


def test_long_tables_are_cut() -> None:
    done = profile(path_of("slow"), *QUICK[2:], "--repeat", 1, "--top", 5)
    assert done.exit_code == 0, done.output
    assert "145 more (--top 0 lists all)" in done.output


def test_files_are_written_and_shown_again(tmp_path: Path) -> None:
    stored, trace, html = tmp_path / "run.json", tmp_path / "run.trace", tmp_path / "run.html"
    done = profile(path_of("affine"), *QUICK, "--json", stored, "--trace", trace, "--html", html)
    assert done.exit_code == 0, done.output
    for path in (stored, trace, html):
        assert f"wrote {path}" in done.output.replace("\n", "")
    assert json.loads(trace.read_text())["traceEvents"]
    assert html.read_text().startswith("<!doctype html>")
    again = profile(stored)
    assert again.exit_code == 0, again.output
    assert again.output.splitlines()[:8] == done.output.splitlines()[:8]


def test_pipelines_can_be_seen(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    options = ["--scheduler", "pipeline", "--stages", 2, "--threads", 2, "--trace", trace]
    done = profile(path_of("slow"), "--repeat", 3, "--warmup", 0, "--warmup-time", 0, *options)
    assert done.exit_code == 0, done.output
    assert {"QUEUE", "WAIT", "LAYER_EXECUTE"} <= {event.get("cat") for event in json.loads(trace.read_text())["traceEvents"]}


def test_json_is_printed() -> None:
    done = profile(path_of("affine"), *QUICK, "--json", "-")
    report = json.loads(done.output)
    assert len(report["durations"]) == 4
    shares = sum(layer["share"] for layer in report["layers"])
    assert shares + report["summary"]["between"] / report["summary"]["median"] == pytest.approx(1.0)


def test_runs_and_models_are_compared(tmp_path: Path) -> None:
    stored = tmp_path / "run.json"
    assert profile(path_of("affine"), *QUICK, "--json", stored).exit_code == 0
    html = tmp_path / "run.html"
    for baseline in (stored, path_of("affine")):
        done = profile(path_of("affine"), *QUICK, "--baseline", baseline, "--html", html)
        assert done.exit_code == 0, done.output
        assert "compared with the baseline" in done.output
        assert "only here" not in done.output
        assert '"comparison":{"baseline"' in html.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonexistent.onnx"], "no model"),
        ([path_of("affine"), "--baseline", __file__], "neither a model folder"),
        (["nonexistent.json"], "error: nonexistent.json: No such file"),
        ([path_of("affine"), "--html", "/nonexistent/folder/report.html"], "no folder /nonexistent/folder"),
        ([path_of("affine"), "--trace", "/"], "is a folder"),
        ([path_of("pair"), "--size", "m=3"], "no dimensions"),
    ],
)
def test_mistakes_are_told(arguments: list, message: str) -> None:
    done = profile(*arguments, *QUICK)
    assert done.exit_code == 1
    assert "error: " in done.output
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "f8"], "bf16"),
        (["--scheduler", "none"], "pipeline"),
        (["--warmup-time", "1e300"], "86400"),
        (["--warmup-time", "nan"], "86400"),
        (["--warmup", "-1"], "--warmup"),
        (["--json", "a", "--html", "a"], "a is the same file as that of --json"),
        (["--trace", "a", "--html", "./a"], "a is the same file as that of --trace"),
        (["--json", path_of("affine")], "is the same file as the model"),
        (["--baseline", "run.json", "--json", "run.json"], "run.json is the same file as the baseline"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    arguments: list, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = profile(path_of("affine"), *QUICK, *arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_other_files_are_no_runs(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"a": 1}')
    done = profile(path_of("affine"), *QUICK, "--baseline", wrong)
    assert (done.exit_code, "not a profile" in done.output.replace("\n", " ")) == (1, True)
