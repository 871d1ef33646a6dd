"""Meta-gradients one task at a time with `torch.autograd`, written apart from the package.

No vmap, no torch.func.grad, no sharing of code with what is tested.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LR, STEPS = 0.1, 3


def call(model, weights, x):
    """The network's outputs; fused attention has no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.functional_call(model, weights, (x,))


def leaves_of(params):
    return {name: p.detach().clone().requires_grad_() for name, p in params.items()}


def gradient_of(total, leaves):
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(leaves.items(), grads, strict=True)
    }


def descent(loss, fast, rate, steps, create_graph=True):
    """The fast weights before the first and after each step of `fast -= rate * gradient`."""
    yield fast
    for step in range(steps):
        grads = torch.autograd.grad(
            loss(fast, step), list(fast.values()), create_graph=create_graph, allow_unused=True
        )
        fast = {
            name: p if g is None else p - rate(name, step) * g
            for (name, p), g in zip(fast.items(), grads, strict=True)
        }
        yield fast


def maml(
    model,
    params,
    episodes,
    adapted=lambda name: True,
    rate=None,
    first_order=False,
    call=call,
    loss=F.cross_entropy,
):
    """MAML and its variants that differ only in what is adapted and in the rates."""
    leaves = leaves_of(params)
    network = {name: p for name, p in leaves.items() if "@" not in name}
    total = 0
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)

        def support_loss(fast, step, sx=sx, sy=sy):
            return loss(call(model, network | fast, sx), sy)

        fast = {name: p for name, p in network.items() if adapted(name)}
        *_, fast = descent(
            support_loss,
            fast,
            (lambda name, step: LR) if rate is None else lambda n, s: rate(leaves, n, s),
            STEPS,
            create_graph=not first_order,
        )
        total = total + loss(call(model, network | fast, qx), qy)
    return gradient_of(total / episodes.num_tasks, leaves)


def meta_sgd(model, params, episodes):
    return maml(model, params, episodes, rate=lambda p, name, step: LR * p[f"rate@{name}"])


def maml_plus_plus(model, params, episodes, counts):
    """On `networks.Small`: per-step rates, norms and statistics; `counts` of query losses."""
    leaves = leaves_of(params)
    norms = ["norm.weight", "norm.bias"] if "step@norm.weight" in params else []
    adapted = [name for name in leaves if "@" not in name]
    total, statistics = 0, []
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)

        def whole(fast, step):
            return fast | {name: leaves[f"step@{name}"][step] for name in norms}

        def support_loss(fast, step, sx=sx, sy=sy, whole=whole):
            return F.cross_entropy(call(model, whole(fast, step), sx), sy)

        def rate(name, step):
            return LR * leaves[f"rate@{name}"][step]

        steps = descent(support_loss, {name: leaves[name] for name in adapted}, rate, STEPS)
        rows = []
        for step, fast in enumerate(steps):
            total = total + counts[step] * F.cross_entropy(call(model, whole(fast, step), qx), qy)
            if norms:
                with torch.no_grad():
                    y = F.conv2d(sx, fast["conv.weight"], fast["conv.bias"], 4, 1)
                rows.append((y.mean((0, 2, 3)), y.transpose(0, 1).flatten(1).var(1)))
        statistics.append(rows)
    grads = gradient_of(total / episodes.num_tasks, leaves)
    if norms:
        for part, name in enumerate(("mean@norm", "variance@norm")):
            seen = torch.stack([torch.stack([row[part] for row in rows]) for rows in statistics])
            grads[name] = params[name] - seen.mean(0)
    return grads


def reptile(model, params, episodes, batch):
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)
        x, y = torch.cat([sx, qx]), torch.cat([sy, qy])

        def loss(fast, step, x=x, y=y):
            rows = [(step * batch + j) % len(y) for j in range(batch)]
            return F.cross_entropy(call(model, fast, x[rows]), y[rows])

        start = leaves_of(params)
        *_, fast = descent(loss, start, lambda name, step: LR, STEPS, create_graph=False)
        for name in total:
            total[name] += (params[name] - fast[name].detach()) / episodes.num_tasks
    return total


def imaml(model, params, episodes, strength, krylov):
    """The system is solved in the Krylov subspace, where conjugate gradient finds its iterates."""
    names = list(params)
    sizes = [params[name].numel() for name in names]

    def unflatten(vector):
        parts = vector.split(sizes)
        return {n: p.view_as(params[n]) for n, p in zip(names, parts, strict=True)}

    theta = torch.cat([params[name].flatten() for name in names])
    total = torch.zeros_like(theta)
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)

        def support_loss(vector, sx=sx, sy=sy):
            return F.cross_entropy(call(model, unflatten(vector), sx), sy)

        phi = theta.clone()
        for _ in range(STEPS):
            phi = phi.detach().requires_grad_()
            pull = strength / 2 * (phi - theta).square().sum()
            phi = phi - LR * torch.autograd.grad(support_loss(phi) + pull, phi)[0]
        phi = phi.detach().requires_grad_()
        g = torch.autograd.grad(F.cross_entropy(call(model, unflatten(phi), qx), qy), phi)[0]
        hessian = torch.autograd.functional.hessian(support_loss, phi)
        matrix = torch.eye(len(phi), dtype=phi.dtype) + hessian / strength
        basis = [g]
        for _ in range(krylov - 1):
            basis.append(matrix @ basis[-1])
        q, _ = torch.linalg.qr(torch.stack([b / b.norm() for b in basis], dim=1))
        total += q @ torch.linalg.solve(q.T @ matrix @ q, q.T @ g) / episodes.num_tasks
    return {n: p.detach() for n, p in unflatten(total).items()}


def protonet(model, params, episodes, embed):
    leaves = leaves_of(params)
    total = 0
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)
        support, query = embed(model, leaves, sx), embed(model, leaves, qx)
        centres = [support[sy == c].mean(0) for c in sorted(set(sy.tolist()))]
        logits = torch.stack([-(query - c).square().sum(1) for c in centres], dim=1)
        total = total + F.cross_entropy(logits, qy)
    return gradient_of(total / episodes.num_tasks, leaves)


def fine_tune(params, episodes, embed):
    """All images of a task in one batch; the classifier of all training classes."""
    leaves = leaves_of(params)
    total = 0
    for i in range(episodes.num_tasks):
        sx, sy, qx, qy = episodes.task(i)
        features = embed(leaves, torch.cat([sx, qx]))
        logits = features @ leaves["classifier@weight"].T + leaves["classifier@bias"]
        total = total + F.cross_entropy(logits, torch.cat([sy, qy]))
    return gradient_of(total / episodes.num_tasks, leaves)
