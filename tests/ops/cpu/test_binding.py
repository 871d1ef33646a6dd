"""What the compiled functions do when memory or arguments are wrong."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from innerloop import EpisodeSampler
from innerloop.data.base import ImageClasses
from innerloop.ops.cpu import attention, binding, library, shapes
from tests.ops.arrays import packed


def block(inputs, size, stride, padding):
    """A block and its derivatives."""
    how = stride, padding, True, 0.0
    x = packed(3, 5, size, size, inputs, dtype=torch.float32)
    w = packed(3, 3, 3, inputs, 64, dtype=torch.float32)
    one, wanted = torch.ones(3, 64), inputs == 16
    z, y, mean, rstd, argmax = binding.block_forward(x, w, one, one, 1e-5, how)
    given = x, w, one, (z, mean, rstd, argmax), y
    first = binding.block_backward(*given, how, wanted)
    tangent = x if wanted else None, w, one, one
    return [y, *first, *binding.block_second(*given, tangent, how, wanted)]


def parts():
    """What a block is made of, by itself."""
    x, w = packed(2, 3, 9, 9, 16, dtype=torch.float64), packed(2, 3, 3, 16, 32, dtype=torch.float64)
    one = torch.ones(2, 32, dtype=torch.float64)
    each = w[..., :1, :16].contiguous()
    z = binding.conv_forward(x, w, 1, 1)
    y, *seen = binding.norm_forward(z, one, one, 1e-5, True, 0.0)
    return [
        *(z, y, *seen),
        binding.conv_inputs(z, w, (9, 9), 1, 1),
        binding.conv_weights(x, z, (3, 3), 1, 1),
        binding.depthwise_forward(x, each, 1, 1),
        binding.depthwise_inputs(x, each, (9, 9), 1, 1),
        binding.depthwise_weights(x, x, (3, 3), 1, 1),
        binding.linear_forward(z.flatten(1, 3), w[:, 0, 0].contiguous(), one[:, :16].contiguous()),
        binding.linear_forward(z[:, 0, 0].contiguous(), w[:1, 0, 0].contiguous(), None),
        *binding.linear_weights(x.flatten(1, 3), z.flatten(1, 3)),
        *group_norm(z, one, 4, 8),
        *group_norm(z.flatten(1, 3)[:, :, None, None], one, 1, 32),
        *binding.norm_backward(z, one, *seen, y, True, 0.0),
        *binding.norm_second(z, one, *seen, y, (z, one, one), True, 0.0),
    ]


def group_norm(x, one, groups, group):
    y, mean, rstd = binding.group_norm_forward(x, one, one, groups, group, 1e-5)
    given = x, one, mean, rstd, y
    second = binding.group_norm_second(*given, (x, one, one), group)
    return [y, mean, rstd, *binding.group_norm_backward(*given, group), *second]


def halves():
    """Where there are none, the same as without them."""
    with shapes.half_products():
        return [t for size, stride in ((30, 2), (7, 2)) for t in block(16, size, stride, stride)]


def of_attention():
    q = torch.linspace(-1, 1, 6 * 2 * 9 * 16).view(6, 2, 9, 16)
    y = attention.forward(q, q, q, 0.5)
    second = attention.second(q, q, q, y, (q, q, q), 0.5)
    return [y, attention.backward(q, q, q, y, 0.5), *second]


def episodes():
    data = ImageClasses.from_square(np.arange(4 * 3 * 36, dtype=np.uint8).reshape(4, 3, 1, 6, 6))
    return EpisodeSampler(data, n_way=2, k_query=1, rotate=True).batch(0, 6)


def runs_out(compiled, granted, function):
    """True if `function` fails when only `granted` requests for memory succeed."""
    compiled.set_requests_left(granted)
    try:
        function()
    except MemoryError:
        return True
    finally:
        compiled.set_requests_left(-1)
    return False


@pytest.mark.parametrize("threads", [1, 2, 8])  # tasks apart, and all tasks at once
@pytest.mark.parametrize(
    "function",
    [
        lambda: block(16, 30, 1, 1),  # Winograd's way
        lambda: block(16, 30, 2, 1),
        lambda: block(1, 30, 1, 1),  # its convolution is computed again
        lambda: block(16, 7, 2, 2),  # mostly padding
        parts,
        halves,
        of_attention,
        episodes,
    ],
    ids=["block", "strides", "pictures", "padding", "parts", "halves", "attention", "episodes"],
)
def test_memory_that_runs_out_is_an_error(compiled, function, threads):
    """Memory may run out anywhere; as soon as there is some again, everything works as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = [t.clone() for t in function() if t is not None]
        granted = 0
        while runs_out(compiled, granted, function):
            granted += 1 if granted < 50 else 17
        assert granted > 2
        found = [t for t in function() if t is not None]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    finally:
        torch.set_num_threads(before)


def test_the_system_can_refuse_memory():
    if library.load() is None or sys.platform != "linux":
        pytest.skip("no kernels whose memory could be limited")
    code = """
import resource, torch
from innerloop.ops.cpu import binding
torch.set_num_threads(1)
x, w, one = torch.randn(1, 200, 28, 28, 1), torch.randn(1, 3, 3, 1, 64), torch.ones(1, 64)
how = 1, 1, True, 0.0
z, y, *seen = binding.block_forward(x, w, one, one, 1e-5, how)
def second():
    return binding.block_second(x, w, one, (z, *seen), y, (None, w, one, one), how, False)
pages = int(open("/proc/self/statm").read().split()[0])
before = resource.getrlimit(resource.RLIMIT_AS)
# Of 40 MB for the output of the convolution there are 25.
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 25_000_000, before[1]))
try:
    second()
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, before)
print(all(t.isfinite().all() for t in second() if t is not None))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "block_second_float32 of the compiled kernels needs more memory than there is",
        "True",
    ], done.stderr


def arguments(**other):
    """Of a block's functions, with other tensors in the place of some."""
    x, w, one = torch.ones(2, 3, 6, 6, 16), torch.ones(2, 3, 3, 16, 32), torch.ones(2, 32)
    given = {"x": x, "w": w, "gamma": one, "how": (1, 1, True, 0.0)}
    z, y, mean, rstd, argmax = binding.block_forward(x, w, one, one, 1e-5, given["how"])
    given |= {"seen": (z, mean, rstd, argmax), "dy": y, "inputs": True}
    return given | other


BAD = {
    "fewer tasks than images": {"w": torch.ones(3, 3, 3, 16, 32)},
    "weights for other inputs": {"w": torch.ones(2, 3, 3, 32, 32)},
    "weights for other outputs": {"w": torch.ones(2, 3, 3, 16, 48)},
    "outputs between registers": {"w": torch.ones(2, 3, 3, 16, 20)},
    "another type": {"w": torch.ones(2, 3, 3, 16, 32).double()},
    "elsewhere": {"w": torch.ones(2, 3, 3, 16, 32, device="meta")},
    "not packed": {"x": torch.ones(2, 3, 16, 6, 6).permute(0, 1, 3, 4, 2)},
    "overlapping": {"x": torch.ones(1, 3, 6, 6, 16).expand(2, -1, -1, -1, -1)},
    "short vectors": {"gamma": torch.ones(1, 32)},
    "another size": {"dy": torch.ones(2, 3, 6, 6, 32)},
    "no stride": {"how": (0, 1, True, 0.0)},
    "less than no padding": {"how": (1, -1, True, 0.0)},
    "too small": {"how": (1, 0, True, 0.0), "x": torch.ones(2, 3, 2, 2, 16)},
    "no images": {"x": torch.ones(2, 0, 6, 6, 16), "dy": torch.ones(2, 0, 3, 3, 32)},
    # The tensor takes no memory: only its shape is read.
    "too large": {"x": torch.ones(1).expand(2, 3, 20_000, 20_000, 16)},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused(compiled, bad):
    given = arguments(**bad)
    with pytest.raises(RuntimeError):
        binding.block_backward(**given)
    zero = given["gamma"]
    with pytest.raises(RuntimeError):
        binding.block_second(**given, tangent=(given["x"], given["w"], zero, zero))


def test_parts_that_do_not_fit_are_refused(compiled):
    x, w, one = torch.ones(2, 3, 6, 6, 16), torch.ones(2, 3, 3, 16, 32), torch.ones(2, 16)
    y, *seen = binding.norm_forward(x, one, one, 1e-5, True, 0.0)
    tangent = x, one, one
    each, rows, groups = w[..., :1, :16].contiguous(), x.flatten(1, 3), x[:, :, 0, 0, :4].clone()
    for call in (
        lambda: binding.conv_forward(x, torch.ones(2, 3, 3, 32, 32), 1, 1),
        lambda: binding.conv_forward(x, w.double(), 1, 1),
        lambda: binding.conv_inputs(x, w, (6, 6), 1, 1),
        lambda: binding.conv_inputs(torch.ones(2, 3, 6, 6, 32), w[..., :3, :], (6, 6), 1, 1),
        lambda: binding.conv_weights(x, torch.ones(2, 3, 5, 6, 32), (3, 3), 1, 1),
        lambda: binding.depthwise_forward(x, w, 1, 1),
        lambda: binding.depthwise_forward(x, torch.ones(2, 3, 3, 1, 32), 1, 1),
        lambda: binding.depthwise_forward(x, torch.ones(3, 3, 3, 1, 16), 1, 1),
        lambda: binding.depthwise_forward(x[..., :8].contiguous(), each[..., :8], 1, 1),
        lambda: binding.depthwise_inputs(x, each, (7, 6), 1, 1),
        lambda: binding.depthwise_weights(x, x[:, :, 1:].contiguous(), (3, 3), 1, 1),
        lambda: binding.linear_forward(rows, torch.ones(2, 16, 32), None),
        lambda: binding.linear_forward(rows, torch.ones(2, 20, 16), None),
        lambda: binding.linear_forward(rows, torch.ones(3, 32, 16), None),
        lambda: binding.linear_forward(rows, torch.ones(2, 32, 16), one),
        lambda: binding.linear_weights(rows, rows[:, 1:].contiguous()),
        lambda: binding.group_norm_forward(x, one[:1], one, 4, 4, 1e-5),
        lambda: binding.group_norm_forward(x, one, one, 4, 5, 1e-5),
        lambda: binding.group_norm_forward(x, one, one, 0, 4, 1e-5),
        lambda: binding.group_norm_forward(x[..., :8].contiguous(), one[:, :8], one, 1, 8, 1e-5),
        lambda: binding.group_norm_backward(x, one, one, one, x, 4),
        lambda: binding.group_norm_backward(x, one, groups[:, :2], groups, x, 4),
        lambda: binding.group_norm_second(x, one, groups, groups, x, (y, one, one), 4),
        lambda: binding.group_norm_second(x, one, groups, groups, x, (x, one[0], one), 4),
        lambda: binding.norm_forward(x, one[:1], one, 1e-5, True, 0.0),
        lambda: binding.norm_forward(x[:, :, :1].contiguous(), one, one, 1e-5, True, 0.0),
        lambda: binding.norm_backward(x, one, *seen, x, True, 0.0),
        lambda: binding.norm_second(x, one, *seen, y, (y, *tangent[1:]), True, 0.0),
        lambda: binding.norm_second(x, one, *seen, y, (x, one[0], one), True, 0.0),
    ):
        with pytest.raises(RuntimeError):
            call()


def test_threads_do_not_disturb_each_other(compiled):
    """Calls at once, of several sizes, from several threads of Python."""
    functions = [lambda: block(16, 30, 1, 1), lambda: block(1, 20, 1, 1), parts, episodes] * 4
    expected = [[t for t in f() if t is not None] for f in functions]
    with ThreadPoolExecutor(len(functions)) as pool:
        for _ in range(3):
            running = [pool.submit(f) for f in functions]
            for one, other in zip(running, expected, strict=True):
                found = [t for t in one.result() if t is not None]
                assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))


def test_a_thread_that_ends_leaves_no_memory():
    if library.load() is None or sys.platform != "linux":
        pytest.skip("no kernels whose memory could be counted")
    code = """
import os, threading, torch
from innerloop.ops.cpu import binding
torch.set_num_threads(1)
x, w, one = torch.randn(1, 100, 28, 28, 1), torch.randn(1, 3, 3, 1, 64), torch.ones(1, 64)
how = 1, 1, True, 0.0
kept, y, *seen = binding.block_forward(x, w, one, one, 1e-5, how)
def second():  # 20 MB of workspace
    torch.set_num_threads(1)
    binding.block_second(x, w, one, (kept, *seen), y, (None, w, one, one), how, False)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
for n in range(32):
    if n == 2:
        before = resident()
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
print(resident() - before < 100_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["True"], done.stderr
