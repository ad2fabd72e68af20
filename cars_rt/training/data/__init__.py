"""Simulated spectra with their truth, by the batch."""
