"""Experiments that a page or a decision rests on."""
