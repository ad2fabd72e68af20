"""cars_rt/files: recordings, spectra in other formats, results, and the programs that use them."""
