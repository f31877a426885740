"""The HTTP API: the hosted service's endpoints, served by the user's own ComfyUI."""

FILE_NAME = "fast-animatediff-endpoints.toml"  # of the settings, in the host's user folder
PREFIX = "FAD_ENDPOINTS_"  # of the variables that win over it
