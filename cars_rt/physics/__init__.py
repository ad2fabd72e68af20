"""The physics of coherent anti-Stokes Raman scattering: forward model, axes, substances."""
