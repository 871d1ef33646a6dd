"""Long trials: kills, damaged input, load, determinism."""
