"""The kernels for a GPU: PyTorch's operators, and Triton where it works."""
