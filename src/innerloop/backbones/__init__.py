"""Pretrained networks of others as functions from pictures to features."""

from innerloop.backbones.body import Backbone, Transform
from innerloop.backbones.classes import feature_classes
from innerloop.backbones.preprocess import Preprocess
from innerloop.backbones.sources import backbone

__all__ = ["Backbone", "Preprocess", "Transform", "backbone", "feature_classes"]
