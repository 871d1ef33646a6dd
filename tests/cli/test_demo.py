"""`innerloop demo` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from innerloop.cli import main
from innerloop.cli.demo import _listen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped(number):
    command = [sys.executable, "-m", "innerloop", "demo", "--no-browser", "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        address = next(
            word for line in process.stderr for word in line.split() if word.startswith("http")
        )
        with urllib.request.urlopen(address + "api/models", timeout=30) as reply:
            assert len(json.load(reply)["models"]) >= 4
        assert "127.0.0.1" in address
        process.send_signal(number)
        rest = process.stderr.read()
    assert "Traceback" not in rest
    assert process.returncode in (0, -signal.SIGTERM)


def test_answers_leave_without_delay():
    """asyncio sets TCP_NODELAY on connections of sockets that name their protocol alone."""
    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port), "--no-browser"]) == 2
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "65535"),
        (["--host", "300.1.1.1"], "--host"),
        (["nowhere"], "nowhere is neither a run folder"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "sinusoid"], "sinusoid"),
    ],
)
def test_mistakes_are_explained(words, message, capsys):
    assert main(["demo", "--no-browser", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_the_extra_the_way_out_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert "innerloop[demo]" in capsys.readouterr().err


def test_the_page_is_written(tmp_path, capsys):
    assert main(["demo", "--site", str(tmp_path / "page")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'page' / 'index.html'}: ")
    assert (tmp_path / "page" / "networks.js").is_file()
    assert main(["demo", "--site", str(tmp_path / "page"), "--port", "9000"]) == 2
    assert "--port" in capsys.readouterr().err
