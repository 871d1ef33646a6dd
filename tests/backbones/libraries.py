"""Stand-ins for timm, torchvision and transformers, with the interface that ours use.

The libraries themselves are large, and fetch weights; what their networks and processors look like
is taken from timm 1.0, torchvision 0.29 and transformers 5.24.
"""

from __future__ import annotations

import types
from enum import Enum

import torch
from torch import nn

from tests.backbones.test_body import Dino
from tests.backbones.test_in_use import pretrained


def seeded(classes):
    torch.manual_seed(0)
    return nn.Linear(8, classes) if classes else nn.Identity()


class Net(nn.Module):
    """With batch norm, and a classifier that can be left out."""

    def __init__(self, classes):
        super().__init__()
        self.body, self.fc = pretrained(), seeded(classes)

    def forward(self, x):
        return self.fc(self.body(x))


def timm():
    """The packages `timm` and `timm.data`."""

    def create_model(name, pretrained, num_classes):
        if name == "offline":
            raise FileNotFoundError("An error happened while trying to locate the file on the Hub")
        if name not in ("resnet.a1", "squash", "border"):
            raise RuntimeError(f"Unknown model ({name})")
        network = Net(num_classes)
        network.pretrained_cfg = {"classifier": "fc"}
        network.asked = (name, pretrained)
        return network

    def resolve_model_data_config(network):
        mode = {"squash": "squash", "border": "border"}.get(network.asked[0], "center")
        return {
            "input_size": (3, 24, 24),
            "interpolation": "bicubic",
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "crop_pct": 0.95,
            "crop_mode": mode,
        }

    data = types.ModuleType("timm.data")
    data.resolve_model_data_config = resolve_model_data_config
    package = types.ModuleType("timm")
    package.create_model, package.data = create_model, data
    return {"timm": package, "timm.data": data}


class Mode(Enum):
    BILINEAR = "bilinear"


def torchvision():
    """The packages `torchvision` and `torchvision.models`."""

    class Weights:
        meta = {"categories": list("abcdef")}  # noqa: RUF012

        def transforms(self):
            return types.SimpleNamespace(
                crop_size=[24],
                resize_size=[27],
                mean=[0.5, 0.5, 0.5],
                std=[0.25, 0.25, 0.25],
                interpolation=Mode.BILINEAR,
            )

    def get_model_weights(name):
        if name not in ("resnet", "segments"):
            raise ValueError(f"Unknown model {name}")
        return types.SimpleNamespace(DEFAULT=Weights())

    def get_model(name, weights):
        return Net(6) if name == "resnet" else nn.Sequential(pretrained())

    models = types.ModuleType("torchvision.models")
    models.get_model_weights, models.get_model = get_model_weights, get_model
    package = types.ModuleType("torchvision")
    package.models = models
    return {"torchvision": package, "torchvision.models": models}


class Pooled(nn.Module):
    """A transformer with a pooler, called by keyword, as those of transformers are."""

    def __init__(self):
        super().__init__()
        self.body = Dino()

    def forward(self, pixel_values):
        out = self.body(pixel_values)
        return {**out, "pooler_output": out["last_hidden_state"].mean(dim=1)}


class Both(nn.Module):
    """A network for pictures and text."""

    def __init__(self):
        super().__init__()
        self.vision_model, self.text_model = Pooled(), nn.Linear(2, 2)


PROCESSORS = {
    "crop": {
        "do_resize": True,
        "size": {"shortest_edge": 27},
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 24},
        "resample": 3,
    },
    "square": {"do_resize": True, "size": {"height": 24, "width": 24}, "resample": 2},
    "odd": {"do_resize": True, "size": {"height": 24, "width": 30}, "resample": 2},
}


def transformers():
    """The package `transformers`; names are `PROCESSOR/MISSING`."""

    def model(name, output_loading_info):
        assert output_loading_info
        if name == "offline":
            raise OSError("We couldn't connect to the hub to load the files")
        missing = name.partition("/")[2]
        network = Both() if name.startswith("crop") else Pooled()
        return network, {"missing_keys": {missing} if missing else set()}

    def processor(name):
        return types.SimpleNamespace(
            **PROCESSORS[name.partition("/")[0]],
            image_mean=[0.4, 0.5, 0.6],
            image_std=[0.2, 0.2, 0.3],
            do_normalize=True,
            do_rescale=True,
            rescale_factor=1 / 255,
        )

    package = types.ModuleType("transformers")
    package.AutoModel = types.SimpleNamespace(from_pretrained=model)
    package.AutoImageProcessor = types.SimpleNamespace(from_pretrained=processor)
    return {"transformers": package}
