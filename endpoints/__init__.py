"""The HTTP face: the hosted service's endpoints, served by the user's own ComfyUI."""
