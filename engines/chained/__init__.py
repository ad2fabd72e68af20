"""A network's run of convolutions as one kernel on an NVIDIA GPU, for the engine `torch`."""
