"""Whether the strokes of drawings are darker or lighter than their paper."""

from __future__ import annotations

import functools

import numpy as np

# Between black and white.
MIDDLE = 127.5
# Edges are paper where they have this share of the picture's own range of brightness below them, or
# above; the range leaves out a hundredth of the pixels at either end, such as noise.  A power of
# two, so that bytes compare alike in every precision.
END, OUTER = 7 / 8, 0.01
# Skewness that counts as none.
EVEN = 0.01
# Pictures of so many pixels a side show how light falls off from the middle.
BENT = 16
# A frame is no wider than this share of a picture, and half of the edges are one, as where it runs
# along two sides.  It has this share of the range between it and what it runs round, whose own
# range is half at the least.
DEEP, APART, HALF = 1 / 8, 3 / 4, 1 / 2
# Of larger pictures every second pixel, or third and so on, is looked at; so many at a time.
LARGE, AT_ONCE = 112, 256


def darkness_of_ink(images: np.ndarray) -> np.ndarray:
    """How sure it is of each picture that its ink is dark, `[n]`.

    How bright a page is says nothing: white paper, photographed in the evening, is darker than
    middle grey.  Where the edges of a picture are at one end of its own range of brightness, they
    are paper, unless they are a frame: then what is inside tells.  Elsewhere, as where light is
    uneven, ink is what stands out to one side of the surfaces that fit the pixels best, a plane and
    one of second order; the skewness of the rest tells to which.

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
    darkness, least, most = _by_edges_and_skewness(x)
    deep = frame(*x.shape[1:])
    if not deep:
        return darkness
    inside = x[:, deep:-deep, deep:-deep]
    outer, inner = (np.median(outermost(each), axis=1) for each in (x, inside))
    far = APART * (most - least)
    framed = ((most - outer > far) & (inner - least > far)) | (
        (outer - least > far) & (most - inner > far)
    )
    within, low, high = _by_edges_and_skewness(inside[framed])
    drawn = high - low > HALF * (most - least)[framed]
    darkness[framed] = np.where(drawn, within, darkness[framed])
    return darkness


def _by_edges_and_skewness(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `darkness_of_ink`, of `[n, H, W]` without a frame; and the ends of each range."""
    n, height, width = x.shape
    paper = np.median(outermost(x), axis=1)
    pixels = x.reshape(n, height * width)
    outer = int(OUTER * height * width)
    ordered = np.partition(pixels, (outer, height * width - 1 - outer), axis=1)
    least, most = ordered[:, outer], ordered[:, -1 - outer]
    darkness = np.zeros(n)
    for surface in surfaces(height, width):
        rest = pixels - (pixels @ surface) @ surface.T
        squares = rest * rest
        deviation = np.sqrt(squares.mean(axis=1)).clip(min=1e-3)
        darkness -= (squares * rest).mean(axis=1) / deviation**3
    darkness /= len(surfaces(height, width))
    darkness[np.abs(darkness) < EVEN] = 0
    np.clip(darkness, -1, 1, out=darkness)
    darkness[paper - least > END * (most - least)] = 1
    darkness[most - paper > END * (most - least)] = -1
    return darkness, least, most


def outermost(x: np.ndarray) -> np.ndarray:
    """The outermost pixels of pictures `[n, H, W]`, in no order."""
    return np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], axis=1)


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


def frame(height: int, width: int) -> int:
    """How deep a frame can be, in pixels, in a picture of this size; 0 where there can be none."""
    deep = round(DEEP * min(height, width))
    return deep if min(height, width) > 2 * deep else 0


@functools.lru_cache(maxsize=8)
def surfaces(height: int, width: int) -> list[np.ndarray]:
    """Surfaces over a picture's pixels, of first and of second order: orthonormal `[H * W, terms]`.

    In small pictures the second would follow the drawing, so there is the first alone.
    """
    v, u = np.meshgrid(_axis(height), _axis(width), indexing="ij")
    terms = [each.ravel() for each in (np.ones((height, width)), u, v, u * v, u * u, v * v)]
    found = []
    for order in (terms[:3], terms)[: 2 if min(height, width) >= BENT else 1]:
        # Pictures of one row or column have fewer.
        given = np.stack([term for term in order if term.any()], axis=1)
        found.append(np.linalg.qr(given)[0])
    return found


def _axis(length: int) -> np.ndarray:
    return np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
