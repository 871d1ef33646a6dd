"""The cache: bounded, safe from others, and never the cause of a wrong feature or an error."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading

import pytest
import torch

from innerloop import UserError
from innerloop.backbones.cache import FeatureCache, shared_cache


def some(n, width=256, start=0):
    return [(f"{start + i}".encode(), torch.full((width,), float(start + i))) for i in range(n)]


def test_what_is_kept_comes_back_exactly(tmp_path):
    cache = FeatureCache(tmp_path / "deep" / "f.sqlite", 10**6)
    assert cache.get([b"0"]) == {}
    features = torch.randn(7)
    cache.put([(b"a", features), (b"b", 2 * features)])
    found = FeatureCache(cache.path, 10**6).get([b"b", b"none", b"a"])
    assert sorted(found) == [b"a", b"b"]
    assert torch.equal(found[b"a"], features)
    cache.put([(b"a", -features)])
    assert torch.equal(cache.get([b"a"])[b"a"], -features)


def test_the_oldest_goes_and_the_file_stays_small(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("innerloop.backbones.cache.time.time", lambda: now[0])
    limit = 200_000
    cache = FeatureCache(tmp_path / "f.sqlite", limit)
    for i in range(60):
        now[0] += 1000
        cache.put(some(10, start=10 * i))
        assert cache.get([b"0"]), "used all the time"
        assert cache.path.stat().st_size < 1.2 * limit
    kept = cache.get([f"{i}".encode() for i in range(600)])
    assert 80 < len(kept) < 200
    assert b"599" in kept
    assert b"10" not in kept


@pytest.mark.parametrize("damage", ["header", "middle", "value", "no table", "folder", "text"])
def test_a_damaged_file_costs_time_but_no_answer(damage, tmp_path):
    path = tmp_path / "f.sqlite"
    cache = FeatureCache(path, 10**7)
    cache.put(some(50))
    content = path.read_bytes()
    if damage == "header":
        path.write_bytes(b"x" * 100 + content[100:])
    elif damage == "middle":
        path.write_bytes(content[:5000] + b"\xff" * 20000 + content[25000:])
    elif damage == "value":
        with sqlite3.connect(path) as file:
            file.execute("UPDATE features SET value = zeroblob(1024)")
        file.close()
    elif damage == "text":
        with sqlite3.connect(path) as file:
            file.execute("UPDATE features SET value = 'text'")
        file.close()
    elif damage == "no table":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
    keys = [key for key, _ in some(50)]
    for key, value in cache.get(keys).items():
        assert (value == int(key)).all()
    cache.put(some(3))
    cache.put(some(3))
    assert damage == "folder" or len(cache.get(keys)) >= 3


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "f.sqlite", 10**6)
    cache.put(some(2))
    assert cache.get([b"0"]) == {}


def _work(path, start):
    cache = FeatureCache(path, 10**8)
    for i in range(20):
        cache.put(some(5, start=start + 5 * i))
        for key, value in cache.get([f"{n}".encode() for n in range(0, 400, 7)]).items():
            assert (value == int(key)).all()


def test_processes_and_threads_at_once(tmp_path):
    path = tmp_path / "f.sqlite"
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_work, args=(path, 100 * i)) for i in (0, 1)]
    threads = [threading.Thread(target=_work, args=(path, 100 * i)) for i in (2, 3)]
    for worker in (*others, *threads):
        worker.start()
    for worker in (*others, *threads):
        worker.join()
    assert [process.exitcode for process in others] == [0, 0]
    assert len(FeatureCache(path, 10**8).get([f"{n}".encode() for n in range(400)])) == 400


def test_the_limit_is_a_setting(monkeypatch):
    monkeypatch.delenv("INNERLOOP_FEATURES_MB", raising=False)
    cache = shared_cache()
    assert cache.limit == 10**9
    assert cache.path.parent == type(cache.path)(os.environ["INNERLOOP_HOME"])
    monkeypatch.setenv("INNERLOOP_FEATURES_MB", "0")
    assert shared_cache() is None
    monkeypatch.setenv("INNERLOOP_FEATURES_MB", "much")
    with pytest.raises(UserError, match="INNERLOOP_FEATURES_MB must be a whole number"):
        shared_cache()
