"""Measurements of speed, memory and accuracy, and reproductions of papers."""
