"""This pack, AnimateDiff-Evolved and diffusers on the same weights: the same work, checked, then timed in turns."""
