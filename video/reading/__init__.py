"""Video files, animated pictures and tensors to frames, picked by time, with their sound."""
