"""The settings of `TrainConfig` and `FewShotClassifier` as keywords, for type checkers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from innerloop.backbones import Preprocess, Transform
from innerloop.config import AlgorithmName, ModelName
from innerloop.rates import InnerRates


class TrainSettings(TypedDict, total=False):
    """Settings by name, as `train` takes them: those of `TrainConfig`, which explains each.

    `data` is an argument of its own.
    """

    omniglot_source: str | None
    image_size: int | None
    glyph_classes: int
    split: str
    within_group: bool
    n_way: int
    k_shot: int
    k_query: int
    train_n_way: int | tuple[int, int] | None
    train_k_shot: int | tuple[int, int] | None
    eval_k_query: int
    inputs: Literal["ink", "unit", "raw"]
    rotate: bool
    rotate_test: bool
    model: ModelName
    body: str | None
    weights: str | None
    preprocess: str | None
    views: Literal["whole", "middle", "crops", "flips"]
    width: int
    pool: Literal["stride", "max"]
    head: Literal["linear", "random", "normal", "shared"]
    unit_features: bool
    unit_length: bool
    drop_rate: float
    init: Literal["kaiming", "xavier"]
    normalize: bool
    augment: str | None
    pretrain: float
    pretrain_lr: float | None
    algorithm: AlgorithmName
    loss: str | None
    metric: str | None
    adapted: str | None
    inner_lr: InnerRates
    inner_steps: int
    inner_optimizer: str
    inner_momentum: float
    inner_weight_decay: float
    first_order: bool
    second_order_from: float
    derivative: Literal["reverse", "mixed"]
    inner_reduction: Literal["mean", "per_shot"]
    inner_max_norm: float | None
    bn: Literal["transductive", "support", "frozen", "per_step"]
    distance: Literal["euclidean", "cosine"]
    learn_inner_lr: bool
    per_step_norm: bool
    per_step_statistics: bool
    multi_step_loss_until: float
    inner_batch_size: int | None
    regularization: float
    cg_steps: int
    iterations: int
    max_seconds: float | None
    meta_batch_size: int
    meta_optimizer: str
    meta_lr: float
    schedule: str
    clip_value: float | None
    clip_norm: float | None
    seed: int
    val_every: int
    val_tasks: int
    test_tasks: int
    eval_inner_steps: int
    threads: int | None
    device: str
    precision: Literal["float32", "tf32", "bf16"]
    execution: Literal["auto", "fastest", "stacked", "vmap", "loop", "shared_body"]
    chunk_size: int | None


class ClassifierSettings(TypedDict, total=False):
    """Keywords of `FewShotClassifier`, which explains each."""

    inner_steps: int | None
    bn: str
    ink: str
    prepare: str
    weights: str | Path | None
    preprocess: Preprocess | Transform | str | None
    image_size: int | None
    head: str
    views: str | None
    layers: str | Sequence[str] | None
    white: float | None
    fine_tune: bool
    temperature: float | None
