"""Samplers of episodes, and their random numbers."""
