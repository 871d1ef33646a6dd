"""Users' pictures at the size of a network."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence

import numpy as np

from innerloop.data.closer import for_closer
from innerloop.data.given import names_of, scaled_image
from innerloop.data.ink import looked_at
from innerloop.data.progress import bar_for_many


class Pictures:
    """Pictures at a network's size, and the grey ones as ink is looked for in them.

    Of large ones no more is kept than that, and a larger copy for a second look.

    Args:
        given: bytes `[C, h, w]` of each, in its own size.
        shape: `(C, H, W)` of the network.
        names: how messages call each; None for `X[0]` and so on.

    Attributes:
        scaled: bytes `[n, C, H, W]`.
        looked_at: bytes `[h, w]` of each; none where C is not 1.
        closer: the same for the second look, see `innerloop.data.closer`.
        digests: of all bytes of each, before it was scaled.
        names: as above.
    """

    def __init__(
        self,
        given: Iterable[np.ndarray],
        shape: tuple[int, ...],
        names: Sequence[str] | None = None,
    ) -> None:
        scaled = []
        self.looked_at: list[np.ndarray] = []
        self.closer: list[np.ndarray] = []
        self.digests: list[bytes] = []
        number = operator.length_hint(given) if names is None else len(names)
        with bar_for_many("reading pictures", number) as advance:
            for pixels in given:
                scaled.append(scaled_image(pixels, shape[1:]))
                content = repr(pixels.shape).encode() + pixels.tobytes()
                self.digests.append(hashlib.sha256(content).digest())
                if shape[0] == 1:
                    self.closer.append(for_closer(pixels[0]))
                    self.looked_at.append(looked_at(pixels[0]))
                advance(1)
        self.scaled = np.stack(scaled)
        self.names = names_of(scaled) if names is None else names

    def __len__(self) -> int:
        return len(self.scaled)
