"""Pretrained networks of timm, torchvision and transformers, with their preprocessing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from innerloop.backbones.preprocess import Preprocess
from innerloop.errors import UserError, first_line

# What is made: the network, its preprocessing, and the names of weights of a last layer that it
# no longer has.
Made = tuple[nn.Module, Preprocess, tuple[str, ...]]
# Pillow's numbers of its filters.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_GIVE = "give preprocess="


def timm_network(name: str, pretrained: bool) -> Made:
    """A network of timm without its classifier, `num_classes=0`, which pools its features."""
    timm, data = _library("timm"), _library("timm.data", "timm")
    made = _fetched(
        f"timm:{name}",
        "timm.list_models(pretrained=True) lists what there is",
        lambda: timm.create_model(name, pretrained=pretrained, num_classes=0),
    )
    config = data.resolve_model_data_config(made)
    channels, height, width = config["input_size"]
    mode = config.get("crop_mode", "center")
    if height != width or mode not in ("center", "squash"):
        raise UserError(
            f"timm:{name} takes pictures of {height} x {width} with crop_mode {mode}: {_GIVE}, for "
            "instance timm.data.create_transform(**timm.data.resolve_model_data_config(network))"
        )
    preprocess = Preprocess(
        size=height,
        crop=config["crop_pct"],
        fit="stretch" if mode == "squash" else "crop",
        interpolation=_known_filter(config["interpolation"]),
        mean=tuple(config["mean"]),
        deviation=tuple(config["std"]),
        channels=channels,
    )
    head = getattr(made, "pretrained_cfg", {}).get("classifier") or ()
    return made, preprocess, (head,) if isinstance(head, str) else tuple(head)


def torchvision_network(name: str, pretrained: bool) -> Made:
    """A classifier of torchvision with its default weights, without its last linear layer."""
    models = _library("torchvision.models", "torchvision")

    def make() -> tuple[nn.Module, Any]:
        weights = models.get_model_weights(name).DEFAULT
        return models.get_model(name, weights=weights if pretrained else None), weights

    made, weights = _fetched(
        f"torchvision:{name}", "torchvision.models.list_models() lists what there is", make
    )
    transforms = weights.transforms()
    sizes = [getattr(transforms, field, None) or [0] for field in ("crop_size", "resize_size")]
    crop, resize = (size[0] for size in sizes)
    last = [path for path, module in made.named_modules() if isinstance(module, nn.Linear)][-1:]
    classes = len(weights.meta.get("categories", ()))
    if not crop or not resize or not last or made.get_submodule(last[0]).out_features != classes:
        raise UserError(
            f"torchvision:{name} is not a classifier whose last layer is linear: make the network "
            "yourself, FILE.py:NAME, without its last layer"
        )
    made.set_submodule(last[0], nn.Identity())
    preprocess = Preprocess(
        size=crop,
        crop=crop / resize,
        interpolation=_known_filter(transforms.interpolation.value),
        mean=tuple(transforms.mean),
        deviation=tuple(transforms.std),
    )
    return made, preprocess, (last[0],)


class _Vision(nn.Module):
    """A network of transformers: pixels in, pooled output or class token out."""

    def __init__(self, model: nn.Module, pooled: bool) -> None:
        super().__init__()
        self.model, self.pooled = model, pooled

    def forward(self, x: Tensor) -> dict[str, Any]:
        out: Mapping[str, Any] = self.model(pixel_values=x)
        return {k: v for k, v in out.items() if self.pooled or k != "pooler_output"}


def transformers_network(name: str, pretrained: bool) -> Made:
    """A vision network of transformers: its pooled output; its class token, where there is none.

    Of a network of pictures and text, the part for pictures is taken.
    """
    library = _library("transformers")
    advice = "name a repository of its hub, or a folder that save_pretrained wrote"
    if not pretrained:
        raise UserError(f"transformers:{name} reads its own weights: leave out weights=")
    model, info = _fetched(
        f"transformers:{name}",
        advice,
        lambda: library.AutoModel.from_pretrained(name, output_loading_info=True),
    )
    processor = _fetched(
        f"transformers:{name}", _GIVE, lambda: library.AutoImageProcessor.from_pretrained(name)
    )
    missing = sorted(info["missing_keys"])
    # Some checkpoints have no weights for the pooler, which would be random.
    pooled = not any("pooler" in key for key in missing)
    if lost := [key for key in missing if "pooler" not in key]:
        raise UserError(f"transformers:{name} lacks weights, among them {lost[0]}: name another")
    vision = getattr(model, "vision_model", model)
    return _Vision(vision, pooled), _processed(name, processor), ()


def _processed(name: str, processor: Any) -> Preprocess:
    """What an image processor of transformers does."""

    def setting(field: str, default: Any = None) -> Any:
        found = getattr(processor, field, None)
        return default if found is None else found

    def side(field: str, *keys: str) -> int | None:
        size = setting(field, {})
        if isinstance(size, int):
            return size
        values = [size.get(k) if hasattr(size, "get") else getattr(size, k, None) for k in keys]
        return values[0] if values[0] is not None and len(set(values)) == 1 else None

    square = side("size", "height", "width")
    resize = side("size", "shortest_edge") or square
    crop = side("crop_size", "height", "width") if setting("do_center_crop", False) else square
    if not resize or not crop or crop > resize or not setting("do_resize", True):
        raise UserError(
            f"the image processor of transformers:{name} does not say to which square it scales "
            f"and crops pictures: {_GIVE}"
        )
    if abs(setting("rescale_factor", 1 / 255) - 1 / 255) > 1e-6:
        raise UserError(f"transformers:{name} does not take pixels from 0 to 1: {_GIVE}")
    normalised = setting("do_normalize", True)
    return Preprocess(
        size=crop,
        crop=crop / resize,
        fit="stretch" if square else "crop",
        interpolation=_known_filter(_FILTERS.get(int(setting("resample", 3)), "")),
        mean=tuple(setting("image_mean")) if normalised else (0.0, 0.0, 0.0),
        deviation=tuple(setting("image_std")) if normalised else (1.0, 1.0, 1.0),
    )


def _known_filter(name: str) -> str:
    # timm's "random" is for training; it uses bicubic, as nearly all its networks do.
    return {"random": "bicubic"}.get(name, name)


def _library(name: str, package: str | None = None) -> ModuleType:
    package = package or name
    extra = package if package != "torchvision" else None
    way = f"pip install 'innerloop[{extra}]'" if extra else f"pip install {package}"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise UserError(f"{package} is not installed: {way}") from None
        raise UserError(f"{package} cannot be imported ({first_line(error)}): {way}") from error
    except RuntimeError as error:
        # Compiled parts that do not fit PyTorch.
        raise UserError(
            f"{package} cannot be imported ({first_line(error)}): install a torchvision that fits "
            "your PyTorch"
        ) from error


def _fetched(what: str, advice: str, make: Callable[[], Any]) -> Any:
    """The result of `make`; one clear error for a name that is unknown or cannot be fetched."""
    try:
        return make()
    except MemoryError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot fetch {what} ({first_line(error)}). Try again with a connection; what was "
            f"fetched before works without; {advice}"
        ) from error
    except Exception as error:  # each library has errors of its own
        raise UserError(f"cannot make {what} ({first_line(error)}): {advice}") from error


LIBRARIES: dict[str, Callable[[str, bool], Made]] = {
    "timm": timm_network,
    "torchvision": torchvision_network,
    "transformers": transformers_network,
}
