"""Readers of what other programs write: a module for each kind of file, and what they share.

    own       where counts lie in our layout, which somebody else may have written
    scale     an axis with its unit, made a raman shift
    lazy      rows that are read when a slice of them is asked for, also of a cube
    cube      its map, as it lies in the file
    nexus     any NXdata with an axis          hyperspy  .hspy            crikit  CRIkit2's HDF5
    wdf       Renishaw, by RosettaSciIO        sif       Andor, by sif_parser
    spe       Princeton Instruments            npy       one array, with an axis from elsewhere

Each is given a path, or an open HDF5 file, and what the user says of it, and returns `Spectra` as they stand
in the file, but for their axis: a raman shift that grows, with the spectra turned round if it did not.
"""
