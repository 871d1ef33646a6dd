"""Processes that are asked to compute something, as often as the one that measures wants."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class Answering:
    """A process that answers each line that it is sent with a line, both JSON.

    Args:
        command: what starts it.
        failed: what ends this program if it ends instead of answering.
        options: of `subprocess.Popen`.
    """

    def __init__(self, command: Sequence[str], failed: str, **options: Any) -> None:
        self.failed = failed
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, question: Any) -> Any:
        """The answer."""
        # One that has ended says so by the answer that it does not give.
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(self.failed)
        return json.loads(line)

    def close(self) -> None:
        """Tell it that no more comes, and wait for its end."""
        self.process.communicate()
