"""Meta-training: the outer loop, and what belongs to it."""
