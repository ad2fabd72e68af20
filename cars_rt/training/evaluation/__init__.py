"""How good models are: on simulated spectra, beside each other, on measured spectra."""
