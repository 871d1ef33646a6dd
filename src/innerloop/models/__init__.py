"""Networks of the few-shot papers, and the layers that they are made of."""

from innerloop.models.conv4 import Conv4
from innerloop.models.embedding import Embedding
from innerloop.models.layers import BatchNorm, HeadedModel, SharedHead, Statistics
from innerloop.models.mlp import MLP
from innerloop.models.norms import replace_batch_norm
from innerloop.models.resnet12 import ResNet12
from innerloop.models.tutorial_conv import TutorialConv

__all__ = [
    "MLP",
    "BatchNorm",
    "Conv4",
    "Embedding",
    "HeadedModel",
    "ResNet12",
    "SharedHead",
    "Statistics",
    "TutorialConv",
    "replace_batch_norm",
]
