"""The CARS signal: I(w) = S(w) |chi_R(w) + chi_NR(w)|^2.

The functions use only operators that numpy arrays and torch tensors share, so that the simulator
(numpy, in the core) and training (torch, an extra) compute the same physics from the same lines.
"""

from typing import Any, TypeAlias

Array: TypeAlias = Any  # numpy.ndarray or torch.Tensor; both sides of a call must be of one kind


def lorentzians(shift: Array, position: Array, amplitude: Array, width: Array) -> Array:
    """Resonant susceptibility chi_R = sum_i A_i / (W_i - w - j G_i).

    shift: (p,) raman shift w in cm-1. position, amplitude, width: (..., n) line centres W in cm-1,
    amplitudes A in cm-1 times the unit of chi_NR, and half widths at half maximum G > 0 in cm-1.
    Returns (..., p) complex. Im chi_R of one line peaks at A / G; the CARS signal rises below the
    line and dips above it. (Mukamel, Principles of Nonlinear Optical Spectroscopy, 1995, ch. 9.)
    """
    detuning = position[..., None] - shift
    strength = amplitude[..., None] / (detuning**2 + width[..., None] ** 2)
    real = (strength * detuning).sum(-2)
    imaginary = (strength * width[..., None]).sum(-2)
    return real + 1j * imaginary


def cars_intensity(envelope: Array, chi_r: Array, chi_nr: Array) -> Array:
    """Noise-free CARS intensity S |chi_R + chi_NR|^2, of the broadcast shape and S's unit.

    envelope: S >= 0, (..., p), real. chi_r: (..., p), complex. chi_nr: (..., p), real or complex.
    """
    total = chi_r + chi_nr
    return envelope * (total.real**2 + total.imag**2)


def raman_ratio(chi_r: Array, chi_nr: Array) -> Array:
    """What CARS-RT reports as `raman`: Im{chi_R} / chi_NR, (..., p), dimensionless.

    chi_nr must be real and nowhere zero. This is what Kramers-Kronig retrieval with a perfect
    reference gives (Liu, Lee & Cicerone, Opt. Lett. 34, 1363 (2009)).
    """
    return chi_r.imag / chi_nr
