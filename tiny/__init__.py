"""A tiny SD1.5-shaped model family: its shipped weights, and how the host learns to open them."""
