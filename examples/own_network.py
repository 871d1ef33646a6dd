"""Your own network on your own data: handwritten digits, from scikit-learn.

The digits 0 to 5 are for meta-training, 6 and 7 for validation, 8 and 9 for the test: two digits
that the network has never seen are told apart from two examples of each.

    python examples/own_network.py [OUT]

With a folder OUT, the run is kept there; the same command goes on with it after Ctrl-C.
"""

from __future__ import annotations

import sys
import tempfile

import torch
from sklearn.datasets import load_digits
from torch import nn

import innerloop

DIGITS = load_digits()
IMAGES = torch.from_numpy(DIGITS.images).float().unsqueeze(1) / 16  # [1797, 1, 8, 8]
LABELS = torch.from_numpy(DIGITS.target)


class Network(nn.Module):
    """Two convolutions in plain PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(32 * 4 * 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class Pairs:
    """Tasks of two digits each; task i is a function of i alone."""

    n_way, data_name = 2, "digits"

    def __init__(self, digits: list[int], shots: int = 2, queries: int = 10) -> None:
        self.digits, self.shots, self.queries = digits, shots, queries

    def batch(self, start: int, count: int) -> innerloop.Episodes:
        tasks = [self._task(number) for number in range(start, start + count)]
        return innerloop.Episodes(*(torch.stack(part) for part in zip(*tasks, strict=True)))

    def _task(self, number: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(number)
        support, query = [], []
        for place in torch.randperm(len(self.digits), generator=generator)[:2].tolist():
            of_digit = (self.digits[place] == LABELS).nonzero()[:, 0]
            order = torch.randperm(len(of_digit), generator=generator)
            chosen = IMAGES[of_digit[order[: self.shots + self.queries]]]
            support.append(chosen[: self.shots])
            query.append(chosen[self.shots :])
        y = torch.arange(2)
        return (
            torch.cat(support),
            y.repeat_interleave(self.shots),
            torch.cat(query),
            y.repeat_interleave(self.queries),
        )


def main(out: str | None = None, iterations: int = 200) -> dict:
    """Train, test; returns the results."""
    torch.manual_seed(0)
    run = innerloop.fit(
        innerloop.MAML(Network(), inner_lr=0.1, inner_steps=3),
        Pairs([0, 1, 2, 3, 4, 5]),
        val=Pairs([6, 7]),
        test=Pairs([8, 9]),
        out=out or tempfile.mkdtemp(),
        resume=True,
        report=innerloop.TerminalReport(),
        iterations=iterations,
        meta_batch_size=8,
        meta_lr=1e-3,
        val_every=50,
    )
    return run.results


if __name__ == "__main__":
    main(*sys.argv[1:2])
