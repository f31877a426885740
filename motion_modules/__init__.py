"""AnimateDiff motion modules for ComfyUI's SD1.5 UNet.

`temporal` (one temporal transformer) <- `model` (a whole motion module) <- `checkpoint` (files to modules);
`lora` and `schedule` stand beside them; `adapter` puts them on a host model, `sampling` runs it.
"""
