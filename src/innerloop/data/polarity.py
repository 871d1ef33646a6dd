"""Whether the strokes of drawings are darker or lighter than their paper."""

from __future__ import annotations

import numpy as np

# Between black and white.
MIDDLE = 127.5
# Edges are paper where they have this share of the picture's own range of brightness below them, or
# above; the range leaves out a hundredth of the pixels at either end, such as noise.  A power of
# two, so that bytes compare alike in every precision.
END, OUTER = 7 / 8, 0.01
# Skewness that counts as none.
EVEN = 0.01
# Of larger pictures every second pixel, or third and so on, is looked at; so many at a time.
LARGE, AT_ONCE = 112, 256


def darkness_of_ink(images: np.ndarray) -> np.ndarray:
    """How sure it is of each picture that its ink is dark, `[n]`.

    How bright a page is says nothing: white paper, photographed in the evening, is darker than
    middle grey.  Where the edges of a picture are at one end of its own range of brightness, they
    are paper.  Elsewhere, as where light is uneven, ink is what stands out to one side of the plane
    that fits the pixels best; the skewness of the rest tells to which.

    Args:
        images: bytes `[n, C, H, W]`.

    Returns:
        -1 to 1: above 0 for dark strokes on light paper, below 0 for light strokes on dark, 0 for
        pictures of one brightness and for those that have both alike.
    """
    every = apart(*images.shape[2:])
    images = images[:, :, ::every, ::every]
    parts = [_darkness(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE)]
    return np.concatenate([np.zeros(0), *parts])


def _darkness(images: np.ndarray) -> np.ndarray:
    x = images.astype(np.float64).mean(axis=1)
    n, height, width = x.shape
    paper = np.median(np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1), axis=1)
    rest = x.reshape(n, height * width)
    ordered = np.sort(rest, axis=1)
    outer = int(OUTER * height * width)
    least, most = ordered[:, outer], ordered[:, -1 - outer]
    for direction in plane(height, width):
        rest = rest - (rest @ direction)[:, None] * direction
    deviation = np.sqrt((rest**2).mean(axis=1)).clip(min=1e-3)
    darkness: np.ndarray = -(rest**3).mean(axis=1) / deviation**3
    darkness[np.abs(darkness) < EVEN] = 0
    np.clip(darkness, -1, 1, out=darkness)
    darkness[paper - least > END * (most - least)] = 1
    darkness[most - paper > END * (most - least)] = -1
    return darkness


def ink_is_dark(images: np.ndarray) -> bool:
    """True if most drawings have dark ink; where that is even, if they are more light than dark.

    Args:
        images: bytes `[n, C, H, W]`.
    """
    total = float(darkness_of_ink(images).sum())
    return total > 0 or (total == 0 and bool(images.size) and float(images.mean()) > MIDDLE)


def apart(height: int, width: int) -> int:
    """How far apart the pixels are that are looked at, in a picture of this size."""
    return max(1, -(-max(height, width) // LARGE))


def plane(height: int, width: int) -> list[np.ndarray]:
    """Orthonormal vectors that make up the planes over a picture's pixels, `[H * W]` each."""
    v, u = np.meshgrid(
        np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij"
    )
    vectors = [each.ravel() for each in (np.ones((height, width)), u, v)]
    return [each / np.linalg.norm(each) for each in vectors if each.any()]
