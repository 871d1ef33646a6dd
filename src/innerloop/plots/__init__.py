"""Pictures of runs, tasks and adaptation."""

from innerloop.renamed import forward

__getattr__ = forward(__name__)
