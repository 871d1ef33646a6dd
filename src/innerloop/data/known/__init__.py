"""Data sets of the few-shot papers, from the archives that people have, as folders of pictures."""

from innerloop.data.known.emoji import prepare_emoji
from innerloop.data.known.prepare import NAMES, prepare

__all__ = ["NAMES", "prepare", "prepare_emoji"]
