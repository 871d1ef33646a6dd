"""From settings to what tasks are drawn from: classes of examples, or the tasks themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from innerloop.backbones import Backbone, backbone, feature_classes
from innerloop.config import TrainConfig
from innerloop.data.base import ClassIndexed, ImageClasses
from innerloop.errors import UserError
from innerloop.keywords import arguments_of
from innerloop.making import find_named, make
from innerloop.named import images
from innerloop.recipes import REGRESSION
from innerloop.references import is_reference
from innerloop.registry import ALGORITHMS, DATA, MODELS, taken_by_own
from innerloop.sizes import SIZES
from innerloop.tasks.protocol import Tasks

# Settings that have a meaning for classes of examples alone, and those that regression has not.
_COUNTS = tuple(name for name in SIZES if not name.endswith("n_way"))
SAMPLERS_ONLY = (*_COUNTS, "split", "within_group", "rotate", "rotate_test")
IMAGES_ONLY = (*SAMPLERS_ONLY, "n_way", "bn")

# Classes of examples, from which tasks are drawn; or the tasks themselves, by part.
Source = ClassIndexed | Mapping[str, Tasks]


def build_source(
    config: TrainConfig, *, progress: bool = False, episode_seed: int | None = None
) -> Source:
    """The images that `config` names, or the tasks by part.

    Raises:
        UserError: as `innerloop.data.load`, or from code of the user's own.
    """
    known = is_reference(config.data) or config.data in DATA
    if config.body is not None and not known:
        # As large as the pictures are, not as networks for small images take them.
        return of_features(config, config.data, progress=progress)
    maker = find_named(DATA, config.data) if known else images
    seed = config.seed if episode_seed is None else episode_seed
    asked = config if config.body is None else replace(config, image_size=None)
    found: Source = make(config.data, maker, asked, progress=progress, episode_seed=seed)
    if isinstance(found, Tasks):
        found = {"train": found}
    elif hasattr(found, "_asdict"):  # as a named tuple, of which a part may be missing
        found = {part: tasks for part, tasks in found._asdict().items() if tasks is not None}
    if isinstance(found, Mapping):
        strange = [part for part in found if part not in ("train", "val", "test")]
        if "train" not in found or strange or not all(isinstance(t, Tasks) for t in found.values()):
            raise UserError(
                f"data {config.data} must give tasks by part, a dict with 'train' and, if need be, "
                f"'val' and 'test', each with a method batch; it gave {', '.join(map(str, found))}"
            )
        if config.body is not None:
            raise UserError(
                f"data {config.data} gives its tasks itself, and a body needs classes of pictures: "
                "leave out the body"
            )
        _refuse_unused(config, maker)
        return found
    if not isinstance(found, ClassIndexed):
        raise UserError(
            f"data {config.data} must give classes of examples, or a dict of tasks by part, not "
            f"{type(found).__name__}: innerloop.data.from_arrays makes classes of arrays, "
            "innerloop.data.from_dataset of a PyTorch data set"
        )
    return of_features(config, found, progress=progress)


def build_data(config: TrainConfig, *, progress: bool = False) -> ImageClasses:
    """The images that `config` names; raises `UserError` as `innerloop.data.load`."""
    found = build_source(config, progress=progress)
    if not isinstance(found, ImageClasses):
        raise UserError(f"data {config.data} gives no images")
    return found


def _refuse_unused(config: TrainConfig, maker: Callable[..., Any]) -> None:
    """Raise a `UserError` for settings of images where there are tasks already."""
    usual = TrainConfig.recipe(config.algorithm, config.data, config.model)
    own = (MODELS, config.model), (ALGORITHMS, config.algorithm)
    taken = arguments_of(maker) | taken_by_own(*own)
    numbers = config.data in REGRESSION
    names = set(IMAGES_ONLY if numbers else SAMPLERS_ONLY) - taken
    wrong = sorted(name for name in names if getattr(config, name) != getattr(usual, name))
    if wrong:
        why = "has neither classes nor images" if numbers else "gives its tasks itself"
        raise UserError(f"{', '.join(wrong)}: not for data {config.data}, which {why}")


def body_of(config: TrainConfig) -> Backbone | None:
    """The pretrained network whose features are what is trained on; None for none.

    Raises:
        UserError: as `innerloop.backbones.backbone`.
    """
    if config.body is None:
        return None
    config.check_body()
    return backbone(
        config.body,
        weights=config.weights,
        preprocess=config.preprocess,
        image_size=config.image_size,
    )


def of_features(
    config: TrainConfig, data: ClassIndexed | str, *, progress: bool = False
) -> ClassIndexed:
    """The features of classes of pictures where `config` names a body; else `data` as it is."""
    body = body_of(config)
    if body is None:
        assert not isinstance(data, str)
        return data
    return feature_classes(data, body, views=config.views, progress=progress)
