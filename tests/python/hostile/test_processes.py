"""Processes that exit, fork and run out of memory while the runtime works, and their environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile.common import assert_clean, in_new_process

SLOW = "model = load('slow', threads=2)\nx, y = zeros(384, 384), zeros(384, 384)\n"
DAEMONS = """
def work():
    request = model.create_request()
    while True:
        request.infer([zeros(32, 32)] * 2, [zeros(32, 32)])
        request.wait()
def start(count):
    for _ in range(count): threading.Thread(target=work, daemon=True).start()
"""


@pytest.mark.parametrize(
    ("code", "output"),
    [
        pytest.param(
            SLOW + "requests = [model.create_request() for _ in range(4)]\n"
            "for request in requests: request.infer([x], [zeros(384, 384)])",
            "",
            id="exit with a queue",
        ),
        pytest.param(
            "model = load('affine', threads=2)" + DAEMONS + "start(4); time.sleep(0.2)",
            "",
            id="exit with busy daemon threads",
        ),
        pytest.param(
            "model = load('affine', threads=1)"
            + DAEMONS.replace("    while", "    request.set_callback(lambda *_: time.sleep(0.003))\n    while")
            + "start(4); time.sleep(0.05)",
            "",
            id="exit with daemon threads in callbacks",
        ),
        pytest.param(
            SLOW + "request = model.create_request()\n"
            "request.set_callback(lambda *_: rt.finalize())\nrequest.infer([x], [y])\nrequest.wait()\nprint('ended')",
            "ended\n",
            id="finalize in a callback",
        ),
        pytest.param(
            "def work():\n    for _ in range(20): rt.initialize(); rt.finalize()\n"
            "callers = [threading.Thread(target=work) for _ in range(4)]\n"
            "for caller in callers: caller.start()\n"
            "for caller in callers: caller.join()\n"
            "rt.initialize(); rt.initialize(); print(load('pair').name)",
            "pair\n",
            id="initialize and finalize at once",
        ),
        pytest.param(
            "model = load('affine', threads=2)" + DAEMONS + "start(2)\n"
            "for _ in range(8):\n"
            "    child = os.fork()\n"
            "    if child == 0:\n"
            "        signal.alarm(10)\n"
            "        request = load('affine', threads=1).create_request()\n"
            "        request.infer([zeros(32, 32)] * 2, [zeros(32, 32)]); request.wait(); os._exit(0)\n"
            "    print(os.waitpid(child, 0)[1], end='')",
            "0" * 8,
            id="fork while threads infer",
        ),
        pytest.param(
            SLOW + "request = model.create_request()\nrequest.infer([x], [y])\n"
            "if os.fork() == 0:\n    del request, model\n    gc.collect()\n    sys.exit()\n"
            "print(os.wait()[1], request.wait())",
            "0 False\n",
            id="fork while running, and exit",
        ),
        pytest.param(
            "import resource\nresource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
            "for make in (lambda: rt.tensor(shape=(10**9,)), lambda: load('pair', threads=1024)):\n"
            "    try: make()\n    except rt.OutOfResourceError: print('refused')",
            "refused\nrefused\n",
            id="little memory",
        ),
    ],
)
def test_processes(code: str, output: str) -> None:
    assert assert_clean(in_new_process(code)) == output


def test_a_child_waits_for_what_its_parent_runs() -> None:
    code = (
        SLOW + "request = model.create_request()\nrequest.infer([x], [y])\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(3)\n    try: request.wait()\n"
        "    except rt.RuntimeException: pass\n    os._exit(0)\n"
        "print(os.wait()[1], request.wait())"
    )
    assert assert_clean(in_new_process(code)) == "0 False\n"


def test_fork_while_threads_write_logs(tmp_path: Path) -> None:
    code = (
        "rt.logging.enable_file_log(sys.argv[1]); rt.logging.set_loglevel(rt.LogLevel.DEBUG)\n"
        "ended = []\n"
        "def work():\n    while not ended: load('pair', threads=1)\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        "for _ in range(10):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        signal.alarm(3); load('pair', threads=1); os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1], end='', flush=True)\n"
        "ended.append(True)"
    )
    assert assert_clean(in_new_process(code, tmp_path / "log", timeout=6)) == "0" * 10


@pytest.mark.parametrize(
    "setting",
    [
        {"OPTIMIUM_RT_DEBUG": "nonsense"},
        {"OPTIMIUM_RT_ENABLE_LOG": "nonsense"},
        {"OPTIMIUM_RT_DEFER_INIT": ""},
        {"OPTIMIUM_RT_LOGFILE": ""},
        {"OPTIMIUM_RT_ENABLE_LOG": "1", "OPTIMIUM_RT_DEBUG": "1", "OPTIMIUM_RT_LOGFILE": "/dev/full"},
        {"RAYON_NUM_THREADS": "nonsense"},
    ],
    ids=str,
)
def test_nonsense_in_the_environment(setting: dict[str, str]) -> None:
    out = assert_clean(in_new_process("print(load('pair', threads=2).name)", **setting))
    assert out.endswith("pair\n")


def test_log_files_that_cannot_be_opened() -> None:
    done = in_new_process("", OPTIMIUM_RT_LOGFILE="/nonexistent/log")
    assert done.returncode == 1 and "OPTIMIUM_RT_LOGFILE" in done.stderr and "IOError" in done.stderr, done
