"""`cars-rt bench`: measures, always against a reference in the same run."""
