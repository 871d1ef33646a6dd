"""Where episodes come from: samplers, and the random numbers that they draw."""
