"""`cars-rt calibrate`: calibrations from files and running drivers.

measured   the mean of some spectra, and what is known of them
columns    from places of a spectrum to columns of a camera
program    from that to a part of a calibration, and into its file
moved      whether a reference belongs to a new axis
pictures   what was found, for people
"""
