"""drivers/, installed as cars_rt.drivers."""
