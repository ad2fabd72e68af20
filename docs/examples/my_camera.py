"""A driver for an instrument of your own: describe it, yield its counts, close it.

python my_camera.py --help shows its flags: --subscribers 2 waits for the daemon and the recorder.
"""

import numpy as np

from cars_rt.cli.drive import drive_program
from cars_rt.drivers import Acquisition, Instrument


class MyCamera(Instrument):
    """Replace the random numbers by calls of your camera's library."""

    def acquisition(self):
        raman_shift = np.linspace(400, 3240, 1340)  # from the calibration of your spectrometer
        return Acquisition(source="my camera", raman_shift=raman_shift, dtype="uint16", spectra=1000)

    def frames(self):
        for _ in range(1000):
            yield np.random.poisson(5000, (1, 1340)).astype("uint16")


if __name__ == "__main__":
    drive_program(MyCamera)
