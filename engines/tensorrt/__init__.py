"""TensorRT and TensorRT-RTX behind one engine.

`half` and `recipe` prepare the graph, `builder` compiles it to a plan, `plans` keeps plans on disk, `device`
moves memory, `session` runs a plan, and `engine` is all of it as an `Engine`. What touches the GPU is in
`device_cuda`, `device_pycuda` and `session` alone.
"""
