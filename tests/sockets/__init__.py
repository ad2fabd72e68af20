"""cars_rt/sockets: real ones, on this computer; and the policy of a full queue, which needs none."""
