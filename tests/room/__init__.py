"""Of cars_rt/room: the programs of a measurement as one."""
