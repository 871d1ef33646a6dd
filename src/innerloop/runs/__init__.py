"""What a training run leaves behind: its folder, checkpoints and weights."""

from innerloop.renamed import forward

__getattr__ = forward(__name__)
