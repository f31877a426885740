"""AnimateDiff motion modules for ComfyUI's SD1.5 UNet.

The network: `temporal` (one temporal transformer, its linear layers in `projections`) <- `model` (a whole module).
Files: `folders`, `families` and `keys` (what there is and how it is named) <- `checkpoint` (modules), `lora`.
On a host model: `adapter` puts a module there, as `motion_settings` says. Per layer it uses `spatial` (the UNet's attention in parts),
`across_frames` (v1's norms), `layer_windows` and `fused_kernels` (with `triton_kernels`); per step `still_background`; per run `sampling_run` (the clip's length, its conditions) and
`windows` with `control_windows`; on a CPU `cpu`.
Along the clip: `keyframes` (schedules as text) <- `prompt_schedule`, `frame_values` (strength by frame and pixel), which
`control_strengths` puts behind a ControlNet.
Noise: `schedule` (tables and timesteps), `sampling` (a whole run).
`host_internals` holds what is private or unstable in ComfyUI.
"""
