"""A pretrained network as a function from pictures to features."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from innerloop.algorithms.modules import text_of
from innerloop.algorithms.network import Network
from innerloop.backbones.cache import FeatureCache, shared_cache
from innerloop.backbones.maps import chosen, layer_names, watch
from innerloop.backbones.outputs import features_of, unit_length
from innerloop.backbones.preprocess import Preprocess
from innerloop.backbones.transforms import Transform, pixels_of, pixels_of_noise
from innerloop.backbones.views import VIEWS
from innerloop.data.given import each_picture
from innerloop.data.progress import bar_for_many
from innerloop.errors import UserError, first_line, one_of, true_or_false
from innerloop.models.layers import BatchNorm
from innerloop.models.norms import has_running_statistics
from innerloop.tasks.protocol import digest_of

PRECISIONS = ("float32", "bf16")
# Pictures that go through the network at a time, at most: how many, and numbers in them.
BATCH, BATCH_NUMBERS = 64, 2**22
# Changed when decoding changes, so that what was kept before is not used.
_FORMAT = b"1"


class Backbone:
    """A pretrained network with what it needs: pictures in, features out.

    It computes as in `eval()`: the running statistics of batch norm are constants, dropout is off.
    The network is never written to.

    Args:
        network: from pixels `[B, C, S, S]` to features `[B, F]`; `[B, F, 1, 1]`, the first item of
            a tuple, and the pooled output or the class token of a transformer's dict are taken
            too.
        preprocess: what its pictures need; or a function from an RGB picture of PIL to a tensor
            `[C, S, S]`, with which nothing is kept on disk, because its content cannot be told.
        name: how messages call it.
        precision: `"float32"`, or `"bf16"` for autocast to half precision.
        keep: keep features on disk, at most `INNERLOOP_FEATURES_MB` megabytes (1000; 0 for none)
            in the cache folder; what was used longest ago goes first.
        layers: names of layers that give a map `[B, C, H, W]`, or tokens `[B, T, C]`, as
            `network.named_modules()` has them; or `"auto"` for the last one that does, if there is
            one.  The means of each over the quarters of the picture, which say what lies where,
            follow the network's own features; each of these parts has unit length.

    Attributes:
        width: F.
        layers: the names of the layers that are used.
        output: what of the network's output is taken as features, in words.
        identity: a digest of the weights, of what the network computes, and of the
            preprocessing; features are kept under it.

    Raises:
        UserError: the network does not take such pixels, gives no features, or gives a picture
            features that depend on the other pictures in its batch.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: Preprocess | Transform | None = None,
        *,
        name: str | None = None,
        precision: str = "float32",
        keep: bool = True,
        layers: str | Sequence[str] = (),
    ) -> None:
        one_of(PRECISIONS, precision=precision)
        true_or_false(keep=keep)
        if not isinstance(network, nn.Module):
            raise UserError(f"network must be a torch.nn.Module, not {type(network).__name__}")
        self.network, self.name = network, name or type(network).__name__
        self.preprocess = Preprocess() if preprocess is None else preprocess
        if not callable(self.preprocess):
            raise UserError(
                "preprocess must be an innerloop.backbones.Preprocess or a function from an RGB "
                f"picture to a tensor, not {type(preprocess).__name__}"
            )
        self.precision, self.keep = precision, keep
        _check_norms(network, self.name)
        self._call = Network(network, frozen=has_running_statistics(network))
        tensor = next(network.parameters(), None)
        self._device = torch.device("cpu") if tensor is None else tensor.device
        self._dtype = torch.float32 if tensor is None else tensor.dtype
        self._seen: tuple[Any, ...] | None = None
        self._shape: torch.Size | None = None
        self.output = ""
        self.layers = layer_names(layers)
        tried = self._try()
        self.width = tried.shape[1]
        self._behaviour = _rounded(tried)

    @property
    def identity(self) -> str:
        """See the class; in hexadecimal."""
        parts = [_FORMAT.decode(), self.weights_digest, self._behaviour]
        parts += [text_of(self.preprocess), self.precision, text_of(self.network), *self.layers]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def weights_digest(self) -> str:
        """A digest of parameters and buffers, in hexadecimal."""
        tensors = _tensors(self.network)
        if any(t.is_inference() for t in tensors.values()):
            return _digest(tensors)  # nothing counts what is written to them
        seen = tuple((n, id(t), t.data_ptr(), t._version) for n, t in tensors.items())
        if seen != self._seen:
            self._digest, self._seen = _digest(tensors), seen
        return self._digest

    def features(self, images: Any, views: str = "whole", *, white: float | None = None) -> Tensor:
        """Features `[n, F]`, float32, on the CPU.

        Args:
            images: as `FewShotClassifier` takes them.
            views: what of each picture goes through the network: `"whole"`; `"middle"`, its middle
                as well, 0.8 of width and height; `"crops"`, the corners, too; or `"flips"`, whole,
                middle and mirrored.  Of several, features are scaled to unit length and averaged.
            white: the value of white in arrays, and in pictures of more than 8 bits; None: 255 in
                arrays of integers, 1 of real numbers, and for each such picture by its own range.

        Raises:
            UserError: images that cannot be read, or no such views.
        """
        one_of(VIEWS, views=views)
        # Of anything else, subclasses as well, the text does not tell what it does.
        known = type(self.preprocess) is Preprocess
        cache = shared_cache() if self.keep and known else None
        identity = self.identity.encode()
        found: dict[bytes, Tensor] = {}
        waiting: dict[bytes, tuple[Tensor, str]] = {}
        order = []
        with bar_for_many(f"features of {self.name}", len(images)) as advance:
            for picture in each_picture(images, white):
                advance(1)
                for view in VIEWS[views]:
                    key = hashlib.sha256(identity + picture.digest + view.name.encode()).digest()
                    order.append(key)
                    if key in found or key in waiting:
                        continue
                    if cache is not None:
                        found |= cache.get([key])
                    if key in found:
                        continue
                    x = self._pixels(view(picture.rgb()), picture.name)
                    waiting[key] = x, picture.name
                    if len(waiting) == max(1, min(BATCH, BATCH_NUMBERS // x.numel())):
                        self._run(waiting, found, cache)
            if waiting:
                self._run(waiting, found, cache)
        each = torch.stack([found[key] for key in order])
        if len(VIEWS[views]) == 1:
            return each
        grouped: Tensor = unit_length(each).unflatten(0, (-1, len(VIEWS[views])))
        return grouped.mean(dim=1)

    def _run(
        self,
        waiting: dict[bytes, tuple[Tensor, str]],
        found: dict[bytes, Tensor],
        cache: FeatureCache | None,
    ) -> None:
        """Compute the waiting pictures, which come with their names; add features to `found`."""
        pictures = list(waiting.values())
        try:
            features = self._forward(torch.stack([x for x, _ in pictures]))
        except Exception as error:  # of code of the user's own
            raise self._reason(pictures, error) from error
        new = dict(zip(waiting, features, strict=True))
        if cache is not None:
            cache.put(new.items())
        found |= new
        waiting.clear()

    def _reason(self, pictures: Sequence[tuple[Tensor, str]], error: Exception) -> UserError:
        """Why the network fails on pictures, of which one may be to blame."""
        where = f"{len(pictures)} pictures together"
        for x, name in pictures:
            try:
                self._forward(x[None])
            except Exception as alone:  # of that code, too
                error, where = alone, name
                break
        if isinstance(error, UserError):
            return UserError(f"{where}: {error}")
        why = f"{type(error).__name__}: {first_line(error)}"
        return UserError(f"{self.name} fails on {where}, after others that it took: {why}")

    def _pixels(self, picture: Image.Image, name: str) -> Tensor:
        return self._of_one_size(pixels_of(self.preprocess, picture, name), name)

    def _of_one_size(self, x: Tensor, name: str) -> Tensor:
        if self._shape is None:
            self._shape = x.shape
        if x.shape != self._shape:
            raise UserError(
                f"preprocess gave {list(x.shape)} for {name}, but {list(self._shape)} before: "
                "bring all pictures to one size"
            )
        return x

    def _forward(self, x: Tensor) -> Tensor:
        """Features `[B, F]` of pixels `[B, C, S, S]`."""
        out, maps = self._watched(x, self.layers)
        found, self.output = features_of(out, self.name, len(x))
        # Detached, as a network may turn gradients on for itself.
        found = found.detach().float().cpu()
        if self.layers:
            names = chosen(self.layers, maps, self.name)
            parts = [found, *(maps[name].detach().cpu() for name in names)]
            found = torch.cat([unit_length(part) for part in parts], dim=1)
        if not found.isfinite().all():
            raise UserError(
                f"{self.name} gives features that are not finite: look at its weights, and at "
                "preprocess="
            )
        return found

    def _watched(self, x: Tensor, layers: Collection[str] | None) -> tuple[Any, dict[str, Tensor]]:
        """The network's output for pixels, and the quarters of the maps of layers, None for all."""
        half = torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False
        )
        with torch.no_grad(), half:
            found: tuple[Any, dict[str, Tensor]]
            found = self._call({}, x.to(self._device, self._dtype), watch(layers))
        return found

    def _try(self) -> Tensor:
        """Features of two noise pictures, to check that the network is usable."""
        noise = pixels_of_noise(self.preprocess)
        x = torch.stack([self._of_one_size(one, "a picture of noise") for one in noise])
        with torch.no_grad():
            try:
                self._call.look(x[:1].to(self._device, self._dtype), training=False)
                if self.layers:
                    self.layers = chosen(self.layers, self._watched(x[:1], None)[1], self.name)
                together = self._forward(x)
                alone = torch.cat([self._forward(row[None]) for row in x])
            except UserError:
                raise
            except Exception as error:  # of code of the user's own
                raise UserError(
                    f"{self.name} fails on pixels of shape {list(x.shape)}: "
                    f"{type(error).__name__}: {first_line(error)}. Give image_size= or "
                    "preprocess=, or a network that takes RGB pictures"
                ) from error
        tolerance = 0.1 if self.precision == "bf16" else 1e-3
        if not torch.allclose(together, alone, rtol=tolerance, atol=tolerance * float(alone.std())):
            raise UserError(
                f"{self.name}: the features of a picture depend on the others in the batch, or "
                "change between calls: use a network without batch statistics and random numbers"
            )
        return together


def _check_norms(network: nn.Module, name: str) -> None:
    for path, module in network.named_modules():
        own = isinstance(module, BatchNorm)
        if own or (
            isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
        ):
            raise UserError(
                f"batch norm {path!r} of {name} keeps no running statistics, so that features of a "
                "picture depend on the others: give a network that keeps them, or what "
                "innerloop.load gives of a run"
            )


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by all their names."""
    return {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }


def _digest(tensors: dict[str, Tensor]) -> str:
    names = sorted(tensors)
    parts = [*names, digest_of(*(tensors[name] for name in names))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _rounded(features: Tensor) -> str:
    """Features as text, rounded so that rounding errors hardly change it."""
    scale = float(features.abs().max()) or 1.0
    return hashlib.sha256((features / scale * 200).round().short().numpy().tobytes()).hexdigest()
