"""Keep an image at one Raman band of each scan, with asyncio, until Ctrl-C."""

import asyncio
from contextlib import suppress

import numpy as np

import cars_rt


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
            np.save(f"{run.run}-2930.npy", image)
            print(f"{run.run}-2930.npy: {np.isfinite(image).sum()} of {image.size} points")


with suppress(KeyboardInterrupt):
    asyncio.run(main())
