"""Features on disk, so that those of a picture are computed once."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from innerloop.errors import UserError
from innerloop.files import cache_folder

LIMIT = "INNERLOOP_FEATURES_MB"
T = TypeVar("T")
_log = logging.getLogger(__name__)
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL, used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON features (used);
"""
# Whatever a damaged row holds, it has these types.
_READ = """
SELECT CAST(value AS BLOB), CAST(crc AS INTEGER), CAST(used AS REAL) FROM features WHERE key = ?
"""
_PAGES = ("page_size", "page_count", "freelist_count")
# Seconds that one process waits for another, which writes for milliseconds.
_PATIENCE = 30.0
# Seconds after which a use is written down again.
_RECENT = 600.0
# Evicted beyond the limit, a share of it, so that not every write evicts.
_SPARE = 0.1


class FeatureCache:
    """Features by key in an SQLite file, safe for several processes and threads.

    What is written is there as a whole or not at all.  A file that is damaged or cannot be written
    is not an error: features are computed again.

    Args:
        path: the file; it is made when something is kept.
        limit: its size in bytes, about; beyond that, what was used longest ago goes.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """Features `[F]`, float32, of those keys that are there, undamaged."""
        if not self.path.exists():
            return {}

        def read(file: sqlite3.Connection) -> dict[bytes, Tensor]:
            found, now = {}, time.time()
            for key in keys:
                row = file.execute(_READ, [key]).fetchone()
                if row is None or zlib.crc32(row[0]) != row[1] or len(row[0]) % 4:
                    continue
                found[key] = torch.from_numpy(np.frombuffer(row[0], "<f4").astype(np.float32))
                if now - row[2] > _RECENT:
                    file.execute("UPDATE features SET used = ? WHERE key = ?", [now, key])
            return found

        return self._try(read) or {}

    def put(self, features: Iterable[tuple[bytes, Tensor]]) -> None:
        """Keep features `[F]` by their keys."""
        rows = []
        for key, value in features:
            content = value.float().numpy().astype("<f4").tobytes()
            rows.append((key, content, zlib.crc32(content), time.time()))

        def write(file: sqlite3.Connection) -> None:
            file.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)
            self._evict(file)

        self._try(write, make=True)

    def _evict(self, file: sqlite3.Connection) -> None:
        pages = (file.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGES)
        size, count, free = pages
        excess = (count - free) * size - self.limit
        if excess <= 0:
            return
        excess += int(_SPARE * self.limit)
        gone = []
        for key, length in file.execute("SELECT key, length(value) FROM features ORDER BY used"):
            if excess <= 0:
                break
            gone.append((key,))
            excess -= length
        file.executemany("DELETE FROM features WHERE key = ?", gone)

    def _try(self, do: Callable[[sqlite3.Connection], T], *, make: bool = False) -> T | None:
        """Run `do` in a transaction; None if something is wrong with the file."""
        try:
            if make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as file:
                # Not waiting for the disk: what a power cut damages is found by its checksum.
                file.execute("PRAGMA synchronous = OFF")
                if make:
                    # Before the first table: what is evicted makes the file smaller.
                    file.execute("PRAGMA auto_vacuum = FULL")
                    file.executescript(_TABLE)
                with file:
                    return do(file)
        except (sqlite3.OperationalError, OSError) as error:
            # No room, no permission, locked for too long.
            _log.info("features are not kept in %s: %s", self.path, error)
        except sqlite3.DatabaseError as error:
            _log.warning("%s is damaged (%s) and is rebuilt", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
        return None


def shared_cache() -> FeatureCache | None:
    """The cache of this user, of `INNERLOOP_FEATURES_MB` megabytes (1000); None where that is 0.

    Raises:
        UserError: `INNERLOOP_FEATURES_MB` is not a number.
    """
    text = os.environ.get(LIMIT, "1000")
    if not text.isdecimal():
        raise UserError(f"{LIMIT} must be a whole number of megabytes, 0 for none, not {text!r}")
    if int(text) == 0:
        return None
    return FeatureCache(cache_folder() / "features.sqlite", int(text) * 10**6)
