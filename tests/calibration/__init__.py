"""cars_rt/calibration: axes from lamps and standards, darks, references, and the file that holds them."""
