"""Keep an image at one Raman band, with asyncio."""

import asyncio

import numpy as np

import cars_rt


async def main() -> None:
    async with cars_rt.connect_async("tcp://127.0.0.1:5556") as stream:
        async for run in stream:
            band = np.abs(run.raman_shift - 2930).argmin()  # CH3 stretch
            image = np.zeros(run.scan)
            async for frame in run:
                image.flat[frame.index : frame.index + len(frame.raman)] = frame.raman[:, band]
            np.save(f"{run.run}-2930.npy", image)


asyncio.run(main())
