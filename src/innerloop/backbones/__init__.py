"""Pretrained networks of others as functions from pictures to features."""

from innerloop.backbones.body import Backbone
from innerloop.backbones.classes import feature_classes
from innerloop.backbones.preprocess import Preprocess
from innerloop.backbones.sources import backbone
from innerloop.backbones.transforms import Transform

__all__ = ["Backbone", "Preprocess", "Transform", "backbone", "feature_classes"]
