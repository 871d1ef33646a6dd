"""Numbers, blocks and checks that the tests of derivatives share."""

import torch
import torch.nn.functional as F

from innerloop import ops


def rand(*shape, seed=0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    t = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return t.requires_grad_() if requires_grad else t


def checked(function, *inputs):
    """First and second derivatives, backwards and forwards, in a random direction."""
    check = torch.autograd.gradcheck
    check(function, inputs, fast_mode=True, check_forward_ad=True)
    torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    torch.autograd.gradgradcheck(function, inputs, fast_mode=True, check_fwd_over_rev=True)


def block(x, w, gamma, beta):
    how = {"stride": 1, "padding": 1, "pool": True, "slope": 0.0}
    return ops.conv_block(x, w, gamma, beta, 1e-5, **how)


def plain_block(x, w, gamma, beta):
    x = F.batch_norm(F.conv2d(x, w, padding=1), None, None, gamma, beta, True, 0.0, 1e-5)
    return F.relu(F.max_pool2d(x, 2))


def loss(block, x, w, gamma, beta):
    return (block(x, w, gamma, beta) ** 2 * torch.arange(1.0, 17)[:, None, None]).mean()
