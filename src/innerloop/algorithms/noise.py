"""Random numbers in a forward pass: dropout is a function of (key, step) and nothing else.

An inner loop is computed more than once, in another order, or again after an interruption: by
`mixed` derivatives, by `vmap` in place of a loop, by a run that is resumed.  The masks must be the
same every time.  So dropout draws from a counter-based generator: its numbers follow from the key
of the task, the place in the inner loop, and how many masks the forward pass has drawn before.
No global random state is involved.

Other random operations draw from global generators, or from one that the network holds.  In a loop
over tasks the global ones are seeded in the same way around each forward pass, and put back
afterwards, and the network has a copy of its own so seeded; under `vmap` it is refused.
"""

from __future__ import annotations

import contextlib
import copy
import random
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from innerloop.algorithms.recomputed import Again, repeat_within
from innerloop.algorithms.repeatable import OPENED, RULES
from innerloop.algorithms.uncompiled import as_written
from innerloop.functional import in_transform
from innerloop.ops.stacked import Stacked


class Noise(NamedTuple):
    """The keys from which the random numbers of T tasks are made.

    Attributes:
        keys: T numbers, one for each task.
        place: under `vmap`, which of them a task has, a scalar tensor.
        step: the place in the inner loop.
        drawn: how many masks were drawn at this place so far.
    """

    keys: tuple[int, ...] = (0,)
    place: Tensor | None = None
    step: int = 0
    drawn: list[int] | None = None


_training: ContextVar[bool] = ContextVar("training", default=False)
_NONE = Noise()
_noise: ContextVar[Noise] = ContextVar("noise", default=_NONE)
_start: ContextVar[int] = ContextVar("start", default=0)
_used: ContextVar[list[bool] | None] = ContextVar("used", default=None)
# The hooks for saved tensors that are active, if any.
_saving_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
_DEVICE = Tensor.device.__get__
_copies: ContextVar[list[tuple[Any, Any]] | None] = ContextVar("copies", default=None)
# What a network may hold to draw random numbers from.
OwnGenerator = torch.Generator | random.Random | np.random.Generator | np.random.RandomState
# Only one thread at a time may draw from the global generators, seed or watch them.
_generators = threading.RLock()


def training() -> bool:
    """True while networks are called as in training, with dropout."""
    return _training.get()


@contextlib.contextmanager
def calls(*, training: bool, keys: Sequence[int] = (0,)) -> Iterator[None]:
    """Within this context networks are called in training, or not, for tasks with these keys."""
    tokens = _training.set(training), _noise.set(Noise(tuple(keys)))
    try:
        with as_written():
            yield
    finally:
        _training.reset(tokens[0])
        _noise.reset(tokens[1])


@contextlib.contextmanager
def numbered(start: int) -> Iterator[None]:
    """Within this context the tasks of an evaluation are those from number `start` on."""
    token = _start.set(start)
    try:
        yield
    finally:
        _start.reset(token)


def in_use(count: int) -> contextlib.AbstractContextManager[None]:
    """Within this context networks are called for `count` tasks as in use, without dropout."""
    return calls(training=False, keys=range(_start.get(), _start.get() + count))


@contextlib.contextmanager
def noticing() -> Iterator[list[bool]]:
    """Within this context a list says whether random numbers of networks were asked for."""
    used = [False]
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


@contextlib.contextmanager
def task(position: int, place: Tensor | None = None) -> Iterator[None]:
    """Within this context there is one task, the one at `position`; under vmap that at `place`."""
    before = _noise.get()
    keys = before.keys
    if place is None and before.place is None and len(keys) > 1:
        keys = keys[position : position + 1]
    place = before.place if place is None else place
    token = _noise.set(before._replace(keys=keys, place=place, drawn=[0]))
    try:
        yield
    finally:
        _noise.reset(token)


@contextlib.contextmanager
def at(step: int, *, query: bool = False) -> Iterator[None]:
    """Within this context a forward pass is that of an inner step's support or query set."""
    token = _noise.set(_noise.get()._replace(step=2 * step + query, drawn=[0]))
    try:
        yield
    finally:
        _noise.reset(token)


@contextlib.contextmanager
def drawing(globally: bool, x: Any) -> Iterator[None]:
    """Around one forward pass of a network that is not of this package.

    Args:
        globally: whether it draws from global generators: PyTorch's, Python's or NumPy's.
        x: its inputs.
    """
    noise = _noise.get()
    with contextlib.ExitStack() as stack:
        if globally:
            if in_transform():
                raise RuntimeError("random numbers of global generators cannot be drawn under vmap")
            _notice()
            count = noise.drawn[0] if noise.drawn else 0
            stack.enter_context(seeded(noise.keys[0], noise.step, count, _devices(x)))
            if noise.drawn:
                noise.drawn[0] += 1
        stack.enter_context(_Draws(noise, globally))
        yield


@contextlib.contextmanager
def drawing_in_loss(globally: bool, x: Any) -> Iterator[None]:
    """As `drawing`, around a loss: other numbers than those of the network at this place."""
    noise = _noise.get()
    token = _noise.set(noise._replace(step=-1 - noise.step, drawn=[0]))
    try:
        with drawing(globally, x):
            yield
    finally:
        _noise.reset(token)


@contextlib.contextmanager
def seeded(
    key: int, step: int, count: int = 0, devices: Sequence[torch.device] = ()
) -> Iterator[None]:
    """Within this context the global generators give what follows from the three numbers."""
    with generators_kept(devices):
        seed = _seed(key, step, count)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield


@contextlib.contextmanager
def generators_kept(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Restore the global generators of PyTorch, Python and NumPy afterwards.

    Other threads wait meanwhile, so that they neither draw what this one seeds nor seem to draw.
    """
    with _generators:
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            with torch.random.fork_rng(devices=devices):
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def keys_drawn(tasks: int) -> Iterator[tuple[int, ...]]:
    """Keys from PyTorch's global generator, which is as it was if no network asked for numbers."""
    with _generators:
        before = torch.get_rng_state()
        keys = tuple(torch.randint(2**62, (tasks,), device="cpu").tolist())
    with noticing() as used:
        yield keys
    if not used[0]:
        with _generators:
            torch.set_rng_state(before)


def of_its_own(generator: Any, number: int) -> Any:
    """The copy of a generator that a network holds, for the next forward pass.

    Args:
        generator: an `OwnGenerator`.
        number: how many others of the network were copied before it.
    """
    keys, _, step, drawn = _noise.get()
    seed = _seed(_seed(keys[0], step, drawn[0] if drawn else 0), number, 0)
    if isinstance(generator, torch.Generator):
        new: Any = torch.Generator(generator.device).manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        new = np.random.Generator(type(generator.bit_generator)(seed))
    elif isinstance(generator, np.random.RandomState):
        new = np.random.RandomState(seed % 2**32)
    elif isinstance(generator, random.SystemRandom):
        # The system's numbers cannot be drawn again.
        new = random.Random(seed)
    else:
        new = copy.copy(generator)
        new.seed(seed)
    made = _copies.get()
    if made is not None:
        made.append((new, _state_of(new)))
    return new


@contextlib.contextmanager
def copies_watched() -> Iterator[list[tuple[Any, Any]]]:
    """Within this context a list has each generator that is copied, and its state."""
    made: list[tuple[Any, Any]] = []
    token = _copies.set(made)
    try:
        yield made
    finally:
        _copies.reset(token)


def _state_of(generator: Any) -> Any:
    """What can be compared, of an `OwnGenerator`, or of the module `random` or `numpy.random`."""
    if isinstance(generator, torch.Generator):
        return bytes(generator.get_state().numpy())
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    if hasattr(generator, "getstate"):
        return generator.getstate()
    kind, numbers, *rest = generator.get_state()
    return kind, bytes(numbers), *rest


def _states(devices: Sequence[torch.device]) -> list[Any]:
    """Of the global generators on a CPU, and of those on the `devices`."""
    states = [_state_of(each) for each in (random, np.random, torch.default_generator)]
    return states + [bytes(torch.cuda.get_rng_state(device).numpy()) for device in devices]


def _devices(x: Any) -> list[torch.device]:
    """Where `x` is, if generators of a GPU may be drawn from there."""
    return [x.device] if isinstance(x, Tensor) and x.is_cuda else []


@dataclass
class Seen:
    """What a forward pass did.

    Attributes:
        dropout: it drew masks from keys.
        globally: it drew numbers from global generators.
    """

    dropout: bool = False
    globally: bool = False


@contextlib.contextmanager
def watching(copies: Sequence[tuple[Any, Any]] = (), x: Any = None) -> Iterator[Seen]:
    """Wrap a forward pass, and report what was drawn from; it is given the same numbers each time.

    Args:
        copies: of the generators that the network holds, with their states before.
        x: its inputs.
    """
    devices = _devices(x)
    with seeded(0, 0, devices=devices):
        mode, before = _Draws(Noise()), _states(devices)
        with mode:
            yield mode.seen
        drawn = any(_state_of(new) != state for new, state in copies)
        mode.seen.globally = drawn or _states(devices) != before


def _seed(key: int, step: int, count: int) -> int:
    """Mixes three numbers into one of 63 bits (splitmix64)."""
    z = key & (2**64 - 1)
    for number in (step, count):
        z = (z + 0x9E3779B97F4A7C15 * (number + 1)) & (2**64 - 1)
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        z ^= z >> 31
    return z >> 1


def _notice() -> None:
    used = _used.get()
    if used is not None:
        used[0] = True


def episode_keys(seed: int, start: int, count: int) -> tuple[int, ...]:
    """The keys of episodes `start` to `start + count - 1` of a run with this seed."""
    return tuple(_seed(seed, 0, number) for number in range(start, start + count))


class _Draws(TorchFunctionMode):
    """Dropout, attention and recurrent layers that can be repeated.

    As functions they can also be batched, and differentiated twice.
    """

    def __init__(self, noise: Noise, globally: bool = False) -> None:
        super().__init__()
        self.noise, self.globally, self.seen = noise, globally, Seen()
        self.drawn = [0] if noise.drawn is None else noise.drawn
        self.before: Any = None

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        hooks = _saving_hooks(True)
        if hooks is not None:
            repeat_within(hooks, self._once_more)
        if self.globally and func == _DEVICE:
            # `checkpoint` asks it of its arguments before it calls the part, which may draw.
            self.before = random.getstate(), np.random.get_state()  # noqa: NPY002
        rule = RULES.get(func)
        if rule is not None:
            return rule(self, *args, **(kwargs or {}))
        if func in OPENED:
            with self:
                return OPENED[func](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _once_more(self) -> Again:
        """The numbers that are drawn from here on, drawn again."""
        drawn, before = self.drawn[0], self.before

        @contextlib.contextmanager
        def again() -> Iterator[None]:
            with contextlib.ExitStack() as stack:
                if before:
                    # PyTorch's own generator is kept by `torch.utils.checkpoint`.
                    stack.enter_context(generators_kept())
                    random.setstate(before[0])
                    np.random.set_state(before[1])  # noqa: NPY002
                stack.enter_context(_Draws(self.noise._replace(drawn=[drawn]), self.globally))
                yield

        return again

    def has_tasks(self, x: Tensor) -> bool:
        """True if the first axis of `x` is that of the tasks."""
        place, keys = self.noise.place, self.noise.keys
        return place is None and len(keys) > 1 and not isinstance(x, Stacked)

    def mask(self, shape: Sequence[int], keep: float, like: Tensor) -> Tensor:
        """Ones with probability `keep`, else zeros; the same for the same key, step and count."""
        self.seen.dropout = True
        _notice()
        count, self.drawn[0] = self.drawn[0], self.drawn[0] + 1
        keys, place, step, _ = self.noise
        together = self.has_tasks(like)
        size = tuple(shape[1:]) if together else tuple(shape)
        # NumPy's, because vmap lets no random operation of PyTorch through.
        masks = [
            np.random.Generator(np.random.Philox(_seed(key, step, count))).random(size, np.float32)
            < keep
            for key in keys
        ]
        if isinstance(like, Stacked):
            if len(keys) == 1:
                return torch.from_numpy(masks[0]).to(like.device, like.dtype)
            return Stacked(torch.from_numpy(np.stack(masks)).to(like.device, like.dtype))
        if place is None:
            found = torch.from_numpy(np.stack(masks) if together else masks[0])
            return found.to(like.device, like.dtype)
        found = torch.from_numpy(np.stack(masks)).to(like.device, like.dtype)
        return found.index_select(0, place.reshape(1)).squeeze(0)
