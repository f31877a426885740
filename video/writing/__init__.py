"""Frames to video files and animated pictures that appear whole or not at all."""
