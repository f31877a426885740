"""The HTTP API: the hosted service's endpoints, served by the user's own ComfyUI."""
