"""What needs an NVIDIA GPU: the device layer alone, and TensorRT as a whole. Skipped where there is none.

The conformance checks of tests/engines/test_engines.py run TensorRT, too, where it is available.
"""
