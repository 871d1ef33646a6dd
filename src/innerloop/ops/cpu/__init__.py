"""The kernels for a CPU: their sources in C, and the libraries compiled from them."""
