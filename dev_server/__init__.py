"""A real ComfyUI server as a child process, its client, and what runs in it: demo, page and endpoints."""
