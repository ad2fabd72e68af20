"""Physics and what judges spectra."""
