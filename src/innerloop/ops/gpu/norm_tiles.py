"""Batch norm, pooling and leaky ReLU in Triton; tiles.py launches these.

Each program works on a few pixels and channels of one task.  The formulas are those of
`ops/autograd/norm.py`; sums over the pixels of a task come in parts, from the launch before.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _channels(C: tl.constexpr, CHANNELS: tl.constexpr):
    """The numbers of this program's channels."""
    return tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)


@triton.jit
def moments(
    x, means, squares, pixels, TILES: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared differences from it, of one part of the pixels."""
    part, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    x += task.to(tl.int64) * pixels * C
    dtype: tl.constexpr = x.dtype.element_ty
    mean, square = tl.zeros([CHANNELS], dtype), tl.zeros([CHANNELS], dtype)
    before = tl.full([], 0, tl.int32)
    for tile in range(TILES):
        first = (part * TILES + tile) * ROWS
        r = first + tl.arange(0, ROWS)
        there = (r < pixels)[:, None]
        value = tl.load(x + r[:, None] * C + c[None, :], there, other=0.0)
        # The last tiles of the last part may be empty.
        here = tl.maximum(tl.minimum(pixels - first, ROWS), 0)
        mean_here = tl.sum(value, 0) / tl.maximum(here, 1).to(dtype)
        away = tl.where(there, value - mean_here[None, :], 0.0)
        # Chan, Golub, LeVeque 1979: exact far from zero, where a sum of squares would not be.
        share = here.to(dtype) / tl.maximum(before + here, 1).to(dtype)
        step = mean_here - mean
        mean += step * share
        square += tl.sum(away * away, 0) + step * step * share * before.to(dtype)
        before += here
    at = (task * tl.num_programs(0) + part) * C + c
    tl.store(means + at, mean)
    tl.store(squares + at, square)


@triton.jit
def normalise(
    x, gamma, beta, means, squares, y, argmax, mean_out, rstd_out,
    EPS: tl.constexpr, POOL: tl.constexpr, SLOPE: tl.constexpr, pixels, rows, parts, part_rows,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    PARTS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    block, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    dtype: tl.constexpr = x.dtype.element_ty
    part = tl.arange(0, PARTS)
    at = (task * parts + part)[:, None] * C + c[None, :]
    mean_of = tl.load(means + at, (part < parts)[:, None], other=0.0)
    square_of = tl.load(squares + at, (part < parts)[:, None], other=0.0)
    count = tl.maximum(tl.minimum(pixels - part * part_rows, part_rows), 0).to(dtype)[:, None]
    mean = tl.sum(mean_of * count, 0) / pixels
    away = mean_of - mean[None, :]
    variance = tl.sum(square_of + count * away * away, 0) / pixels
    rstd = 1.0 / tl.sqrt(variance + EPS)
    if block == 0:
        tl.store(mean_out + task * C + c, mean)
        tl.store(rstd_out + task * C + c, rstd)
    factor = tl.load(gamma + task * C + c) * rstd
    shift = tl.load(beta + task * C + c)
    x += task.to(tl.int64) * pixels * C
    r = block * ROWS + tl.arange(0, ROWS)
    there = (r < rows)[:, None]
    if POOL:
        pixel = ((r // (OW * OH) * H + (r // OW) % OH * 2) * W + r % OW * 2)[:, None] * C + c
        best = (tl.load(x + pixel, there, other=0.0) - mean) * factor + shift
        chosen = tl.zeros([ROWS, CHANNELS], tl.int32)
        for k in tl.static_range(1, 4):
            other = tl.load(x + pixel + (k // 2 * W + k % 2) * C, there, other=0.0)
            other = (other - mean) * factor + shift
            chosen = tl.where(other > best, k, chosen)
            best = tl.where(other > best, other, best)
    else:
        value = tl.load(x + r[:, None] * C + c[None, :], there, other=0.0)
        best = (value - mean) * factor + shift
        chosen = tl.zeros([ROWS, CHANNELS], tl.int32)
    if SLOPE != 1:
        # What is not a number stays so.
        below = best <= 0
        chosen = tl.where(below, chosen + 4, chosen)
        best = tl.where(below, 0.0 if SLOPE == 0 else best * SLOPE, best)
    at = task.to(tl.int64) * rows * C + r[:, None] * C + c[None, :]
    tl.store(y + at, best, there)
    tl.store(argmax + at, chosen.to(tl.uint8), there)


@triton.jit
def _passed(value, mine, sloped, SLOPE: tl.constexpr):
    """What of `value`, or of its derivative, comes from a pixel."""
    if SLOPE != 1:
        value = tl.where(sloped, 0.0 if SLOPE == 0 else value * SLOPE, value)
    return tl.where(mine, value, 0.0)


@triton.jit
def _at_pixels(
    dy, argmax, r, c, there,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    POOL: tl.constexpr, SLOPE: tl.constexpr,
):  # fmt: skip
    """The derivative for pixels `r` from that of the outputs.

    And for each pixel the place of its output, whether that has chosen it, and whether the slope
    was applied.
    """
    if POOL:
        h, w = (r // W) % H, r % W
        output = (r // (W * H) * OH + h // 2) * OW + w // 2
        inside = there & ((h // 2 < OH) & (w // 2 < OW))[:, None]
        own = (h % 2 * 2 + w % 2)[:, None]
    else:
        output, inside, own = r, there, 0
    at = output[:, None] * C + c[None, :]
    chosen = tl.load(argmax + at, inside, other=0).to(tl.int32)
    mine, sloped = inside & ((chosen & 3) == own), chosen > 3
    g = _passed(tl.load(dy + at, inside, other=0.0), mine, sloped, SLOPE)
    return g, at, mine, sloped


@triton.jit
def backward_sums(
    x, mean_in, rstd_in, argmax, dy, sums, POOL: tl.constexpr, SLOPE: tl.constexpr, pixels,
    TILES: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Of g and of g x̂, in one part of the pixels."""
    part, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    mean, rstd = tl.load(mean_in + task * C + c), tl.load(rstd_in + task * C + c)
    outputs = pixels // (H * W) * (OH * OW)
    x += task.to(tl.int64) * pixels * C
    dy += task.to(tl.int64) * outputs * C
    argmax += task.to(tl.int64) * outputs * C
    sum_g, sum_gx = tl.zeros([ROWS, CHANNELS], mean.dtype), tl.zeros([ROWS, CHANNELS], mean.dtype)
    for tile in range(TILES):
        r = (part * TILES + tile) * ROWS + tl.arange(0, ROWS)
        there = (r < pixels)[:, None]
        g, _, _, _ = _at_pixels(dy, argmax, r, c, there, H, W, OH, OW, C, POOL, SLOPE)
        value = tl.load(x + r[:, None] * C + c[None, :], there, other=0.0)
        sum_g += g
        sum_gx += g * (value - mean) * rstd
    at = (task * tl.num_programs(0) + part) * 2 * C + c
    tl.store(sums + at, tl.sum(sum_g, 0))
    tl.store(sums + at + C, tl.sum(sum_gx, 0))


@triton.jit
def _total(
    sums, task, parts, c, WHICH: tl.constexpr, NUMBER: tl.constexpr, C: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """One of `NUMBER` sums over all parts, for each channel."""
    part = tl.arange(0, PARTS)
    at = ((task * parts + part) * NUMBER + WHICH)[:, None] * C + c[None, :]
    return tl.sum(tl.load(sums + at, (part < parts)[:, None], other=0.0), 0)


@triton.jit
def backward(
    x, gamma, mean_in, rstd_in, argmax, dy, sums, dx, dgamma, dbeta, POOL: tl.constexpr,
    SLOPE: tl.constexpr, pixels, rows, parts, part_rows,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    PARTS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    block, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    mean, rstd = tl.load(mean_in + task * C + c), tl.load(rstd_in + task * C + c)
    sum_g = _total(sums, task, parts, c, 0, 2, C, PARTS)
    sum_gx = _total(sums, task, parts, c, 1, 2, C, PARTS)
    if block == 0:
        tl.store(dbeta + task * C + c, sum_g)
        tl.store(dgamma + task * C + c, sum_gx)
    factor = tl.load(gamma + task * C + c) * rstd
    outputs = pixels // (H * W) * (OH * OW)
    dy += task.to(tl.int64) * outputs * C
    argmax += task.to(tl.int64) * outputs * C
    r = block * ROWS + tl.arange(0, ROWS)
    there = (r < pixels)[:, None]
    g, _, _, _ = _at_pixels(dy, argmax, r, c, there, H, W, OH, OW, C, POOL, SLOPE)
    at = task.to(tl.int64) * pixels * C + r[:, None] * C + c[None, :]
    x_hat = (tl.load(x + at, there, other=0.0) - mean) * rstd
    tl.store(dx + at, factor * (g - sum_g / pixels - x_hat * (sum_gx / pixels)), there)


@triton.jit
def second_sums(
    x, mean_in, rstd_in, argmax, dy, v_in, sums, POOL: tl.constexpr, SLOPE: tl.constexpr, pixels,
    TILES: tl.constexpr,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Of g, v, g x̂, v x̂ and v g, in one part of the pixels."""
    part, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    mean, rstd = tl.load(mean_in + task * C + c), tl.load(rstd_in + task * C + c)
    outputs = pixels // (H * W) * (OH * OW)
    x += task.to(tl.int64) * pixels * C
    v_in += task.to(tl.int64) * pixels * C
    dy += task.to(tl.int64) * outputs * C
    argmax += task.to(tl.int64) * outputs * C
    g0, v0 = tl.zeros([CHANNELS], mean.dtype), tl.zeros([CHANNELS], mean.dtype)
    gx0, vx0 = tl.zeros([CHANNELS], mean.dtype), tl.zeros([CHANNELS], mean.dtype)
    vg0 = tl.zeros([CHANNELS], mean.dtype)
    for tile in range(TILES):
        r = (part * TILES + tile) * ROWS + tl.arange(0, ROWS)
        there = (r < pixels)[:, None]
        at = r[:, None] * C + c[None, :]
        g, _, _, _ = _at_pixels(dy, argmax, r, c, there, H, W, OH, OW, C, POOL, SLOPE)
        v = tl.load(v_in + at, there, other=0.0)
        x_hat = (tl.load(x + at, there, other=0.0) - mean) * rstd
        g0 += tl.sum(g, 0)
        v0 += tl.sum(v, 0)
        gx0 += tl.sum(g * x_hat, 0)
        vx0 += tl.sum(v * x_hat, 0)
        vg0 += tl.sum(v * g, 0)
    at = (task * tl.num_programs(0) + part) * 5 * C + c
    tl.store(sums + at, g0)
    tl.store(sums + at + C, v0)
    tl.store(sums + at + 2 * C, gx0)
    tl.store(sums + at + 3 * C, vx0)
    tl.store(sums + at + 4 * C, vg0)


@triton.jit
def second(
    x, gamma, mean_in, rstd_in, argmax, dy, v_in, a_in, b_in, sums, to_x, to_gamma, to_dy,
    dx, POOL: tl.constexpr, SLOPE: tl.constexpr, pixels, rows, parts, part_rows,
    H: tl.constexpr, W: tl.constexpr, OH: tl.constexpr, OW: tl.constexpr, C: tl.constexpr,
    PARTS: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    block, task = tl.program_id(0), tl.program_id(2)
    c = _channels(C, CHANNELS)
    mean, rstd = tl.load(mean_in + task * C + c), tl.load(rstd_in + task * C + c)
    mean_g = _total(sums, task, parts, c, 0, 5, C, PARTS) / pixels
    mean_v = _total(sums, task, parts, c, 1, 5, C, PARTS) / pixels
    mean_gx = _total(sums, task, parts, c, 2, 5, C, PARTS) / pixels
    mean_vx = _total(sums, task, parts, c, 3, 5, C, PARTS) / pixels
    mean_vg = _total(sums, task, parts, c, 4, 5, C, PARTS) / pixels
    q = mean_vg - mean_v * mean_g - mean_vx * mean_gx
    if block == 0:
        tl.store(to_gamma + task * C + c, rstd * pixels * q)
    a, b = tl.load(a_in + task * C + c), tl.load(b_in + task * C + c)
    factor = tl.load(gamma + task * C + c) * rstd
    outputs = pixels // (H * W) * (OH * OW)
    dy += task.to(tl.int64) * outputs * C
    argmax += task.to(tl.int64) * outputs * C
    to_dy += task.to(tl.int64) * outputs * C
    r = block * ROWS + tl.arange(0, ROWS)
    there = (r < pixels)[:, None]
    g, output, mine, sloped = _at_pixels(dy, argmax, r, c, there, H, W, OH, OW, C, POOL, SLOPE)
    at = task.to(tl.int64) * pixels * C + r[:, None] * C + c[None, :]
    v = tl.load(v_in + at, there, other=0.0)
    x_hat = (tl.load(x + at, there, other=0.0) - mean) * rstd
    # What P of norm.py is applied to is a sum of v and g, and P is linear.
    of_g, of_v = g - mean_g - x_hat * mean_gx, v - mean_v - x_hat * mean_vx
    found = (a - factor * mean_vx) * of_g - factor * mean_gx * of_v - factor * q * x_hat
    tl.store(to_x + at, rstd * found, there)
    tl.store(dx + at, factor * of_g, there)
    # Each output is written once: by the pixel that it chose.
    to_y = _passed(a * x_hat + b + factor * of_v, mine, sloped, SLOPE)
    tl.store(to_dy + output, to_y, there & mine)
