"""What the models can do, asked through the workflow files in a real ComfyUI: the score card and the pictures."""
