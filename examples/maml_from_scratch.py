"""MAML from scratch, with PyTorch and nothing else (Finn, Abbeel, Levine 2017).

A network learns to learn: after meta-training it tells five symbols apart that it has never
seen, from one drawing of each.  Run it (about a minute):

    python examples/maml_from_scratch.py
"""

import torch
import torch.nn.functional as F

WAYS, SHOTS, QUERIES = 5, 1, 5  # a task: 5 symbols, 1 drawing of each to learn from, 5 to be asked
SIZE = 16  # pixels a side
INNER_LR, INNER_STEPS = 0.1, 3  # the inner loop learns one task
META_LR, TASKS, ITERATIONS = 2e-3, 8, 200  # the outer loop learns the initial weights


# 1. Tasks ---------------------------------------------------------------------------------------
# A symbol is a curve through the plane, given by four control points.  Each drawing of it moves
# the points a little, as no hand draws the same thing twice.


def invent(symbols):
    """Control points [symbols, 4, 2] of new symbols."""
    return torch.rand(symbols, 4, 2) * 0.9 + 0.05


def draw(points, drawings, wobble=0.04):
    """Pictures [symbols, drawings, 1, SIZE, SIZE], 0 for paper and 1 for ink."""
    points = points[:, None] + wobble * torch.randn(len(points), drawings, 4, 2)
    # A Bezier curve of degree three, at 24 places.
    t = torch.linspace(0, 1, 24)[:, None]
    weights = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], dim=1)
    curve = weights @ points  # [symbols, drawings, 24, 2]
    # Ink where the nearest place of the curve is near.
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    pixels = torch.cartesian_prod(axis, axis)
    distance = torch.cdist(curve, pixels).amin(dim=2)
    return torch.exp(-((distance * SIZE) ** 2)).unflatten(-1, (1, SIZE, SIZE))


def make_task():
    """Support and query set of one task: pictures, and labels 0 to WAYS - 1."""
    pictures = draw(invent(WAYS), SHOTS + QUERIES)
    support_x, query_x = pictures[:, :SHOTS].flatten(0, 1), pictures[:, SHOTS:].flatten(0, 1)
    labels = torch.arange(WAYS)
    return support_x, labels.repeat_interleave(SHOTS), query_x, labels.repeat_interleave(QUERIES)


# 2. A network as a function of its weights ------------------------------------------------------
# The inner loop makes new weights for each task, so the weights are an argument.


def init_weights(width=32):
    """The initial weights, which meta-training will change."""
    weights = {}
    for i, (ins, outs) in enumerate([(1, width), (width, width), (width, width)]):
        weights[f"conv{i}"] = torch.randn(outs, ins, 3, 3) * (2 / (9 * ins)) ** 0.5
        weights[f"scale{i}"], weights[f"shift{i}"] = torch.ones(outs), torch.zeros(outs)
    weights["head"], weights["bias"] = torch.zeros(WAYS, 4 * width), torch.zeros(WAYS)
    return {name: w.requires_grad_() for name, w in weights.items()}


def network(weights, x):
    """Pictures [B, 1, SIZE, SIZE] to logits [B, WAYS]."""
    for i in range(3):
        x = F.conv2d(x, weights[f"conv{i}"], padding=1)
        # Statistics of the batch at hand: none are kept.
        x = F.batch_norm(x, None, None, weights[f"scale{i}"], weights[f"shift{i}"], training=True)
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(x.flatten(1), weights["head"], weights["bias"])


# 3. The inner loop: gradient descent on the support set -----------------------------------------


def adapt(weights, x, y, second_order=True):
    """The fast weights of one task; `weights` stay as they are."""
    fast = weights
    for _ in range(INNER_STEPS):
        loss = F.cross_entropy(network(fast, x), y)
        # With create_graph the gradient can itself be differentiated: that is the second order.
        grads = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
        fast = {name: w - INNER_LR * g for (name, w), g in zip(fast.items(), grads, strict=True)}
    return fast


# 4. The outer loop: gradient descent on the initial weights -------------------------------------


def meta_loss(weights, tasks, second_order=True):
    """Mean query loss after adaptation, and the share of queries that are right."""
    losses, right = [], []
    for support_x, support_y, query_x, query_y in tasks:
        fast = adapt(weights, support_x, support_y, second_order)
        logits = network(fast, query_x)
        losses.append(F.cross_entropy(logits, query_y))
        right.append((logits.argmax(dim=1) == query_y).float().mean())
    return torch.stack(losses).mean(), torch.stack(right).mean().item()


def main(iterations=ITERATIONS):
    """Meta-train, and say what that bought.  Returns the weights."""
    torch.manual_seed(0)
    test_tasks = [make_task() for _ in range(100)]
    weights = init_weights()
    _, before = meta_loss(weights, test_tasks, second_order=False)
    optimizer = torch.optim.Adam(weights.values(), META_LR)
    for i in range(1, iterations + 1):
        loss, accuracy = meta_loss(weights, [make_task() for _ in range(TASKS)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 50 == 0:
            print(f"iteration {i:5d}  query loss {loss:.3f}  accuracy {accuracy:.3f}", flush=True)
    _, after = meta_loss(weights, test_tasks, second_order=False)
    print(f"new symbols, one drawing each: {before:.3f} untrained, {after:.3f} meta-trained")
    return weights


if __name__ == "__main__":
    main()
