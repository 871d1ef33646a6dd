"""What a training run leaves behind: its folder, checkpoints and weights."""
