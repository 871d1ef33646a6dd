"""MAML on adapters alone: a transformer that was trained before stays as it is.

The transformer reads the bytes of a name and says which language calls a country so.  It is
trained on many languages; then it is frozen, and MAML learns low-rank adapters and a head (Hu et
al. 2021, arXiv:2106.09685) from which a few names are enough for five languages it never saw.

The names are those of Unicode's CLDR, in the package Babel.

    pip install babel
    python examples/adapters.py
"""

from __future__ import annotations

import tempfile
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F
from babel import Locale, localedata
from torch import Tensor, nn

import innerloop

LENGTH = 20


def names() -> tuple[np.ndarray, list[str]]:
    """Names of countries as bytes `[M, 20]`, filled up with 0; and their languages."""
    codes = [code for code in sorted(localedata.locale_identifiers()) if "_" not in code]
    found = {
        code: {name for key, name in Locale(code).territories.items() if key.isalpha()}
        for code in codes
    }
    # "Angola" is Angola in many languages: only names that one language alone has tell anything.
    languages = Counter(name for own in found.values() for name in own)
    tokens, labels = [], []
    for code, own in found.items():
        alone = sorted(name for name in own if languages[name] == 1)
        if len(alone) >= 30:
            tokens += [list(name.encode()[:LENGTH].ljust(LENGTH, b"\0")) for name in alone]
            labels += [code] * len(alone)
    return np.array(tokens), labels


class Block(nn.Module):
    """Attention among the places of a sequence, then a network for each place."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        # [B, L, 3 * width] to three of [B, heads, L, width / heads]
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5
        scores = scores.masked_fill(padding[:, None, None], -1e9)
        x = x + self.out((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """From bytes `[B, L]` to logits `[B, classes]`."""

    def __init__(self, classes: int, width: int = 48, layers: int = 2, length: int = LENGTH):
        super().__init__()
        self.tokens = nn.Embedding(256, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        x = self.tokens(tokens) + self.places
        for block in self.blocks:
            x = block(x, padding)
        there = (~padding).unsqueeze(-1).to(x.dtype)
        return self.head(self.norm((x * there).sum(dim=1) / there.sum(dim=1)))


class LowRank(nn.Module):
    """A linear layer as it was, and a change of low rank, which is 0 at first."""

    def __init__(self, linear: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Linear(linear.in_features, rank, bias=False)
        self.b = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.b(self.a(x))


def add_adapters(network: Transformer, rank: int = 4) -> None:
    """Freeze all of `network` but its head, and put an adapter beside each linear layer."""
    network.requires_grad_(False)
    network.head.requires_grad_(True)
    for block in network.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, LowRank(getattr(block, name), rank))


def pretrain(network: Transformer, data: innerloop.EpisodeSampler, steps: int) -> None:
    """Ordinary training: each example of the sampler's classes, and its class among all."""
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    for i in range(steps):
        batch = data.batch(i, 1)
        loss = F.cross_entropy(network(batch.query_x[0]), batch.query_y[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main(
    pretraining: int = 500, iterations: int = 100, tasks: int = 200, adapters: bool = True
) -> dict[str, float]:
    """Accuracy on new languages from five names of each, before and after meta-training."""
    data = innerloop.data.from_arrays(*names())
    train, val, test = innerloop.split_tasks(data, n_way=5, k_shot=5, k_query=5)
    torch.manual_seed(0)
    network = Transformer(len(train.classes))
    many = innerloop.EpisodeSampler(
        data, train.classes, n_way=64, k_shot=1, k_query=1, labels="class"
    )
    pretrain(network, many, pretraining)
    network.head = nn.Linear(network.head.in_features, 5)
    if adapters:
        add_adapters(network)
    maml = innerloop.MAML(network, inner_lr=0.1, inner_steps=2)
    start = maml.init_params()
    before = innerloop.evaluate(maml, start, test, tasks=tasks)["accuracy"]
    run = innerloop.fit(
        maml,
        train,
        val=val,
        test=test,
        out=tempfile.mkdtemp(),
        iterations=iterations,
        meta_batch_size=4,
        meta_lr=5e-3 if adapters else 1e-3,
        val_every=max(1, iterations // 4),
        val_tasks=min(50, tasks),
        test_tasks=tasks,
    )
    learnt = sum(p.numel() for p in start.values())
    return {"learnt": learnt, "before": before, "after": run.results["accuracy"]}


if __name__ == "__main__":
    for adapters in (True, False):
        found = main(adapters=adapters)
        print("adapters:" if adapters else "everything:", found)
