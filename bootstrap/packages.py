"""What `dev.py` installs, in groups, and why which version."""

# For the downloaded host a combination seen to run: the three have to match, and pip alone may pick three that do not.
# A ComfyUI of your own gets the newest. A torch >= 2.7 that is in .venv already (for another CUDA, for ROCm) is kept.
TESTED_TORCH = ["torch==2.14.1", "torchvision==0.29.1", "torchaudio==2.11.0"]
ANY_TORCH = ["torch>=2.7", "torchvision", "torchaudio"]
TORCH_WORKS = """import torch, torchaudio, torchvision
assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 7); print(torch.__version__)"""

# Exact where a version decides a result: ruff's formatting, mypy's findings, diffusers as the numeric oracle (0.42 needs
# Python 3.11). pytest 9.2 has no longer the field in which pytest-xdist 3.8 notes a test's group. Of comfy-cli only the
# workflow converter is used. It needs pathspec; the other 24 dependencies stay out.
TEST_TOOLS = ["pytest>=8,<9.2", "pytest-xdist>=3.8,<4", "hypothesis>=6,<7", "pathspec>=1,<2"]
TEST_TOOLS += ["ruff==0.17.5", "mypy==2.4.1"]
TEST_TOOLS += ["diffusers==0.42.1; python_version >= '3.11'", "diffusers==0.41.0; python_version < '3.11'"]
FRONT = ["aiohttp>=3.12", "pydantic>=2,<3", "cryptography"]  # of the endpoints in a process of their own
CERTIFICATES = "trustme>=1.2,<2"  # the Python client speaks only https
# The service's own client, and schemathesis, which makes requests up from the OpenAPI document.
TEST_TOOLS += ["fal-client==1.0.3", CERTIFICATES, "schemathesis>=4,<5"]
CONVERTER = ["--no-deps", "comfy-cli==1.23.0"]
