"""innerloop: few-shot meta-learning in PyTorch."""
