"""Load on the server of the page: answers a second and waiting times with 1, 8 and 64 clients.

    python -m benchmarks.demo_load [--seconds 20] [--clients 1 8 64]

Each client asks what the page asks (five classes, one drawing each, five inner steps), waits for
the answer and asks again.  The clients share the machine with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.figures import write_report


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
        "model": "omniglot-conv4",
        "support": [[drawing(random)] for _ in range(5)],
        "query": drawing(random),
        "inner_steps": 5,
    }
    return json.dumps(body).encode()


def resident_mb(process: subprocess.Popen) -> float:
    """Memory of the server."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def client(number: int, address: str, until: float, waits: list[float], errors: list) -> None:
    """Ask until the time is over."""
    questions = [question(np.random.default_rng([number, i])) for i in range(8)]
    headers = {"Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=address, headers=headers, timeout=60) as session:
        asked = 0
        while time.perf_counter() < until:
            start = time.perf_counter()
            try:
                reply = await session.post("/api/predict", content=questions[asked % 8])
                if reply.status_code != 200:
                    errors.append(reply.status_code)
            except httpx2.HTTPError as error:
                errors.append(repr(error))
            waits.append(time.perf_counter() - start)
            asked += 1


async def load(address: str, clients: int, seconds: float) -> dict:
    """What that many clients see."""
    waits: list[float] = []
    errors: list = []
    start = time.perf_counter()
    await asyncio.gather(
        *(client(i, address, start + seconds, waits, errors) for i in range(clients))
    )
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
        asyncio.run(load(address, 1, 3))  # warm-up
        rows = []
        for clients in arguments.clients:
            before = resident_mb(process)
            row = asyncio.run(load(address, clients, arguments.seconds))
            after = resident_mb(process)
            rows.append(row | {"memory_mb": [round(before, 1), round(after, 1)]})
            print(json.dumps(rows[-1]), flush=True)
    finally:
        process.terminate()
        process.wait()
    write_report("demo_load", rows, "python -m benchmarks.demo_load")


if __name__ == "__main__":
    main()
