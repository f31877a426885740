"""What the models can do, measured through the workflow files in a real ComfyUI: the score card and the pictures."""
