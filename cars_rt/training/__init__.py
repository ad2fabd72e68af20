"""Training networks that remove the non-resonant background. Needs the `train` extra (torch)."""
