"""Keep an image at one Raman band of each scan, with asyncio, until Ctrl-C."""

import asyncio
from contextlib import suppress

import numpy as np

import cars_rt
from cars_rt.storage import file_name


async def main() -> None:
    async with cars_rt.connect_async("tcp://127.0.0.1:5556") as stream:
        async for run in stream:
            if run.scan is None:
                print(f"run {run.run} is no scan")
                continue
            band = np.abs(run.raman_shift - 2930).argmin()  # CH3 stretch
            image = np.full(run.scan, np.nan)  # what does not come stays NaN
            async for frame in run:
                points = np.arange(frame.index, frame.index + len(frame.raman)) % image.size
                image.flat[points] = frame.raman[:, band]
            name = file_name(run.run, "-2930.npy")  # a run's id may hold what no file's name may
            np.save(name, image)
            print(f"{name}: {np.isfinite(image).sum()} of {image.size} points")


with suppress(KeyboardInterrupt):
    asyncio.run(main())
