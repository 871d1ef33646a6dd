"""The programs in JavaScript and C++ on the page about exports, run as they stand there.

They need what Python does not bring: INNERLOOP_ORT_WEB names the npm package onnxruntime-web,
INNERLOOP_ORT_HEADERS a folder with onnxruntime_cxx_api.h.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import innerloop

pytestmark = pytest.mark.filterwarnings("ignore")

PAGE = Path(__file__).parent.parent.parent / "docs" / "en" / "export.md"
NETWORK = "omniglot-protonet"


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return found


def named(variable: str, what: str) -> Path:
    folder = os.environ.get(variable)
    if folder is None:
        pytest.skip(f"{variable} does not name {what}")
    return Path(folder)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}")
    return found


@pytest.fixture
def classifier() -> innerloop.FewShotClassifier:
    data = innerloop.data.glyphs(10)
    support = np.concatenate([data.class_images(c)[:2] for c in range(5)])
    return innerloop.FewShotClassifier(NETWORK, prepare="none").fit(support, np.repeat(range(5), 2))


@pytest.fixture
def queries() -> np.ndarray:
    data = innerloop.data.glyphs(10)
    return np.concatenate([data.class_images(c)[2:3] for c in range(5)])


def test_the_javascript_of_the_page_says_what_python_says(classifier, queries, tmp_path):
    package = named("INNERLOOP_ORT_WEB", "the npm package onnxruntime-web")
    node = program("node")
    innerloop.export(NETWORK, tmp_path / "learner.onnx", learner=True)
    data = innerloop.data.glyphs(10)
    support = np.concatenate([data.class_images(c)[:2] for c in range(5)])
    given = {
        "support": support.flatten().tolist(),
        "labels": np.repeat(range(5), 2).tolist(),
        "queries": queries.flatten().tolist(),
    }
    (tmp_path / "main.mjs").write_text(
        f"import * as ort from {json.dumps((package / 'dist/ort.node.min.mjs').as_uri())};\n"
        f"const given = {json.dumps(given)};\n"
        "const pixels = (x) => Uint8Array.from(x);\n"
        "const [support, queries] = [pixels(given.support), pixels(given.queries)];\n"
        f"const [labels, count] = [given.labels, {len(queries)}];\n"
        f"{block('js')}"
        "console.log(JSON.stringify([probabilities.dims, [...probabilities.data]]));\n",
        "utf-8",
    )
    done = subprocess.run([node, "main.mjs"], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    shape, found = json.loads(done.stdout.splitlines()[-1])
    expected = np.stack(list(classifier.staged_predict_proba(queries)))
    assert tuple(shape) == expected.shape
    np.testing.assert_allclose(found, expected.flatten(), atol=1e-4)


def test_the_cpp_of_the_page_says_what_python_says(classifier, queries, tmp_path):
    headers = named("INNERLOOP_ORT_HEADERS", "a folder with onnxruntime_cxx_api.h")
    compiler = program("g++")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    classifier.export(tmp_path / "classifier.onnx")
    (tmp_path / "classify.cpp").write_text(block("cpp"), "utf-8")
    # The names by which it is found when the program is linked, and when it runs.
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    where = ["-I", headers, "-L", tmp_path, "-lonnxruntime", f"-Wl,-rpath,{tmp_path}"]
    command = [compiler, "-std=c++17", "classify.cpp", *where, "-o", "classify"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for query, expected in zip(queries, classifier.predict_proba(queries), strict=True):
        done = subprocess.run(
            [tmp_path / "classify"],
            input=query.tobytes(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            check=True,
        )
        np.testing.assert_allclose(np.array(done.stdout.split(), float), expected, atol=1e-4)
