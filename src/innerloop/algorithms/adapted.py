"""Parameters by patterns of their names: what the inner loop changes, and at which rates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn

from innerloop.errors import UserError


def trainable(model: nn.Module) -> list[str]:
    """The names of the parameters that require a gradient."""
    return [name for name, p in model.named_parameters() if p.requires_grad]


def names_of(adapted: str, model: nn.Module, shared_rows: Collection[str]) -> list[str]:
    """The names of the trainable parameters that `adapted` means.

    Args:
        adapted: see `GradientBased`.
        model: has the parameters.
        shared_rows: those that hold one row for every class.

    Raises:
        UserError: a name that is none of them, or a shared head that stays as it is.
    """
    if not isinstance(adapted, str):
        raise UserError(
            f"adapted must be text, not a {type(adapted).__name__}: separate names by commas, such "
            "as 'layer1.*,head.*'"
        )
    names = trainable(model)
    if not names:
        raise UserError("the network has no trainable parameter: there is nothing to adapt")
    if adapted in ("head", "body") and not hasattr(model, "head"):
        raise UserError(
            f"this network has no module called head, so adapted={adapted!r} has no meaning: "
            f"name the parameters instead, with wildcards; there are {', '.join(names)}"
        )
    if adapted == "body":
        chosen = [name for name in names if not name.startswith("head.")]
    else:
        patterns = {"all": "*", "head": "head.*"}.get(adapted, adapted).split(",")
        matches = {p: [n for n in names if fnmatchcase(n, p.strip())] for p in patterns}
        for pattern, found in matches.items():
            if not found:
                raise UserError(
                    f"adapted: no trainable parameter matches {pattern.strip()!r}; there are "
                    f"{', '.join(names)}"
                )
        chosen = [name for name in names if any(name in found for found in matches.values())]
    if shared_rows and not set(shared_rows) & set(chosen):
        raise UserError(
            f"adapted={adapted!r} leaves out the shared head, whose rows would stay the same "
            "for all classes: give the network head='random', with a row for each class"
        )
    return chosen


def rates_by_name(
    patterns: Mapping[str, float], model: nn.Module, adapted: Iterable[str]
) -> dict[str, float]:
    """The rate of each parameter: that of the first pattern that matches its name.

    Args:
        patterns: rates by pattern, with the wildcards of `fnmatch`; their order counts.
        model: has the parameters.
        adapted: those that must have a rate.

    Raises:
        UserError: an adapted parameter without a rate, or a pattern that decides about none.
    """
    names, found = trainable(model), dict[str, float]()
    for pattern, rate in patterns.items():
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches and not names:
            raise UserError("the network has no trainable parameter: there is nothing to adapt")
        if not matches:
            raise UserError(
                f"inner_lr: {pattern!r} matches none of the trainable parameters {', '.join(names)}"
            )
        new = [name for name in matches if name not in found]
        if not new:
            way_out = "leave it out" if len(matches) == len(names) else "put it before them"
            raise UserError(
                f"inner_lr: {pattern!r} comes after patterns that match all its parameters, and "
                f"the first match counts: {way_out}"
            )
        found |= dict.fromkeys(new, rate)
    missing = [name for name in adapted if name not in found]
    if missing:
        raise UserError(
            f"inner_lr has no rate for {', '.join(missing)}: add a pattern, for instance '*' at "
            "the end for all the others"
        )
    return found
