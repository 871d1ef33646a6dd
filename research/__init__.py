"""Experiments behind a page or a decision."""
