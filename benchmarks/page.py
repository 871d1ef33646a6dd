"""Size and speed of the page without a server: `python -m benchmarks.page FOLDER`.

In Chromium, opened from a file.  Beside it, for the same question, the learner that
`innerloop export` writes in onnxruntime-web, whose npm package lies in FOLDER; in one thread,
because more need headers that a file and most web hosts do not give.  Writes
`benchmarks/results/page.json`.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver

import innerloop
from benchmarks.chromium import chromium
from benchmarks.reports import write_report
from innerloop.demo.answers import FIRST, episode_source, offered
from innerloop.demo.site import write_site

# Ways, shots, and how many answers.
QUESTIONS = ((5, 1, 40), (10, 5, 12))
# The first answers, which compile, are not counted.
WARM_UP = 4
# Milliseconds of each answer.
MEASURE = """
const [model, ways, shots, answers, done] = arguments;
(async () => {
  const browser = new innerloop.Browser(innerloop.site);
  const { support, query } = await browser.episode(ways, shots, 0);
  const drawing = (picture) => ({ picture, strokes: [] });
  const rows = support.map((own) => own.map(drawing));
  const found = [];
  for (let i = 0; i < answers; i++) {
    // As while somebody draws: another query each time, and the same support set.
    const asked = { ...drawing(query), strokes: [[10 * i, 0, 10 * i, 20]] };
    const question = { model, support: rows, query: asked, steps: 5, prepare: "auto" };
    const start = performance.now();
    await browser.predict(question);
    found.push(performance.now() - start);
  }
  done(found);
})();
"""
OTHER = """
const [ways, shots, answers, done] = arguments;
(async () => {
  const ort = await import("./dist/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create("learner.onnx");
  const pixels = (n) => new ort.Tensor(
    "uint8", Uint8Array.from({ length: n * 784 }, () => 255 * Math.random()), [n, 1, 28, 28]);
  const count = ways * shots;
  const labels = BigInt64Array.from({ length: count }, (_, i) => BigInt(Math.floor(i / shots)));
  const question = {
    support: pixels(count), labels: new ort.Tensor("int64", labels, [count]), queries: pixels(1),
  };
  const found = [];
  for (let i = 0; i < answers; i++) {
    const start = performance.now();
    await session.run(question);
    found.push(performance.now() - start);
  }
  done(found);
})().catch((error) => done(String(error)));
"""


def times(driver: webdriver.Chrome, script: str, *arguments: Any) -> dict[str, float]:
    """Milliseconds of an answer."""
    driver.set_script_timeout(600)
    driver.command_executor.client_config.timeout = 600
    found = driver.execute_async_script(script, *arguments)
    if isinstance(found, str):
        raise SystemExit(found)
    later = found[WARM_UP:]
    return {
        "first_ms": round(found[0], 1),
        "median_ms": round(float(np.median(later)), 1),
        "least_ms": round(min(later), 1),
        "most_ms": round(max(later), 1),
    }


def own(driver: webdriver.Chrome, folder: Path) -> dict[str, Any]:
    """Our page."""
    entries = offered([])
    files = write_site(folder, entries, *episode_source("glyphs", None, entries))
    driver.get((folder / "index.html").as_uri())
    sizes = {file.name: file.stat().st_size for file in files}
    kilobytes = driver.execute_script("return innerloop.site.kilobytes")
    found = {
        f"{model}, {ways}-way {shots}-shot": times(driver, MEASURE, model, ways, shots, answers)
        for model in entries
        for ways, shots, answers in QUESTIONS
        if model != "untrained"  # the same computation as the first network
    }
    return {"bytes": sum(sizes.values()), "kilobytes at first": kilobytes[0], "answers": found}


def other(driver: webdriver.Chrome, package: Path, folder: Path) -> dict[str, Any]:
    """onnxruntime-web: the two files that a page needs beside the learner."""
    needed = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    (folder / "dist").mkdir(parents=True)
    for name in needed:
        shutil.copy(package / "dist" / name, folder / "dist" / name)
    innerloop.export(FIRST, folder / "learner.onnx", learner=True)
    (folder / "index.html").write_text("<!doctype html>")
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver.get(f"http://127.0.0.1:{server.server_port}/index.html")
        found = {
            f"{FIRST}, {ways}-way {shots}-shot": times(driver, OTHER, ways, shots, answers)
            for ways, shots, answers in QUESTIONS
        }
        server.shutdown()
    version = json.loads((package / "package.json").read_text("utf-8"))["version"]
    return {"version": version, "bytes": sum(sizes), "answers": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="the npm package onnxruntime-web")
    package = parser.parse_args().package
    with tempfile.TemporaryDirectory() as place, chromium() as driver:
        runs = {
            "page": own(driver, Path(place) / "page"),
            "onnxruntime-web": other(driver, package, Path(place) / "other"),
        }
        browser = driver.capabilities["browserVersion"]
    print(json.dumps(runs, indent=1))
    write_report("page", runs, "python -m benchmarks.page FOLDER", browser=browser)


if __name__ == "__main__":
    main()
