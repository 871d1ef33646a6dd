"""Meta-training: the outer loop and its parts."""
