"""Heads: what tells classes apart by the features of a frozen body."""

from innerloop.heads.choice import HEADS, FittedHead, fit_head

__all__ = ["HEADS", "FittedHead", "fit_head"]
