"""Heads: classifiers on the features of a frozen body."""

from innerloop.heads.choice import FittedHead, Trial, fit_head
from innerloop.heads.linear import Stages
from innerloop.heads.prepared import Prepared

__all__ = ["FittedHead", "Prepared", "Stages", "Trial", "fit_head"]
