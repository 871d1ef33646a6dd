"""Load on the server of the page: answers a second and waiting times with 1, 8 and 64 clients.

    python -m trials.demo_load [--seconds 20] [--clients 1 8 64]

Each client asks what the page asks (five classes, one drawing each, five inner steps), waits for
the answer and asks again.  The clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from benchmarks.reports import write_report
from PIL import Image, ImageDraw


def drawing(random: np.random.Generator) -> str:
    """A drawing of three lines, as the page sends it."""
    image = Image.new("L", (105, 105), 255)
    for _ in range(3):
        ImageDraw.Draw(image).line(random.integers(10, 95, 4).tolist(), fill=0, width=3)
    buffer = io.BytesIO()
    image.convert("RGBA").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def question(random: np.random.Generator) -> bytes:
    """Five classes of one drawing each and a query."""
    body = {
        "model": "omniglot-5steps",
        "support": [[drawing(random)] for _ in range(5)],
        "query": drawing(random),
        "inner_steps": 5,
    }
    return json.dumps(body).encode()


def resident_mb(process: subprocess.Popen) -> float:
    """Memory of the server."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def client(number: int, port: int, until: float, waits: list[float], errors: list[object]) -> None:
    """Ask until the time is over."""
    questions = [question(np.random.default_rng([number, i])) for i in range(8)]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    # As browsers do; else 40 ms are spent waiting between the header and the body.
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in itertools.count():
        if time.perf_counter() >= until:
            return
        start = time.perf_counter()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/api/predict", questions[i % 8], headers)
            reply = connection.getresponse()
            reply.read()
            if reply.status != 200:
                errors.append(reply.status)
        except (OSError, http.client.HTTPException) as error:
            errors.append(error)
        waits.append(time.perf_counter() - start)


def load(port: int, clients: int, seconds: float) -> dict[str, float]:
    """What that many clients see."""
    waits: list[float] = []
    errors: list[object] = []
    start = time.perf_counter()
    threads = [
        threading.Thread(target=client, args=(i, port, start + seconds, waits, errors))
        for i in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - start
    ms = np.array(waits) * 1000
    return {
        "clients": clients,
        "requests": len(waits),
        "errors": len(errors),
        "requests_per_second": round(len(waits) / passed, 1),
        "p50_ms": round(float(np.percentile(ms, 50)), 1),
        "p99_ms": round(float(np.percentile(ms, 99)), 1),
    }


def main() -> None:
    """Start a server, load it, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "innerloop", "demo", "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(word for line in process.stderr for word in line.split() if "http" in word)
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        load(port, 1, 3)  # warm-up
        rows = []
        for clients in arguments.clients:
            before = resident_mb(process)
            row = load(port, clients, arguments.seconds)
            after = resident_mb(process)
            rows.append(row | {"memory_mb": [round(before, 1), round(after, 1)]})
            print(json.dumps(rows[-1]), flush=True)
    finally:
        process.terminate()
        process.wait()
    write_report("demo_load", rows, "python -m trials.demo_load")


if __name__ == "__main__":
    main()
