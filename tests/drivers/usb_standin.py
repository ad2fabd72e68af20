"""An Ocean USB2000 below PyUSB: a backend that answers what the spectrometer would, byte by byte.

Everything above it is real: python-seabreeze and PyUSB. Its faults are those that people report. `install`
makes it the module usb.backend.standin, which seabreeze.use("pyseabreeze", pyusb_backend="standin") finds.
"""

import json
import sys
import time
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from usb.backend import IBackend
from usb.core import USBError, USBTimeoutError

PIXELS, VENDOR, PRODUCT = 2048, 0x2457, 0x1002
COEFFICIENTS = ("800.5", "0.11", "-2e-06", "0")  # nm, of the wavelength calibration in its memory
OUT, SPECTRA, QUERIES = 0x02, 0x82, 0x87


def spectrum(number: int) -> Any:
    """Counts (2048,) of 12 bits of a spectrum."""
    return ((np.arange(PIXELS) * 7 + number * 13) % 4000).astype("<u2")


def wavelengths() -> Any:
    pixel = np.arange(PIXELS, dtype=np.float64)
    return sum(float(c) * pixel**power for power, c in enumerate(COEFFICIENTS))


def order() -> Any:
    """Where the bytes of a spectrum lie as this model sends them: 64 low bytes, then their 64 high bytes."""
    at = np.arange(2 * PIXELS)
    return (at // 2) % 64 + (at % 2) * 64 + (at // 128) * 128


def note(state: Path, **what: Any) -> None:
    """Add a line of JSON: test and spectrometer are two processes, and neither may find the file half
    written, or write over what the other one says."""
    with state.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def noted(state: Path) -> dict[str, Any]:
    """All that is noted; of each name the latest."""
    lines = state.read_text(encoding="utf-8").splitlines(keepends=True)
    return {key: value for line in lines if line.endswith("\n") for key, value in json.loads(line).items()}


class Backend(IBackend):  # type: ignore[misc]
    """`state`: what the test says to it (fault), and what has been done to it; see `note`."""

    state: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.number, self.answer, self.micros, self.opened = -1, b"", 0, False

    def fault(self) -> str:
        return str(noted(self.state)["fault"])

    # -- what PyUSB asks ------------------------------------------------------------------------------

    def enumerate_devices(self) -> Any:
        return iter([] if self.fault() == "absent" else [1])

    def get_parent(self, dev: Any) -> None:
        return None

    def get_device_descriptor(self, dev: Any) -> Any:
        return types.SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x200, bDeviceClass=255, bDeviceSubClass=0,
            bDeviceProtocol=0, bMaxPacketSize0=64, idVendor=VENDOR, idProduct=PRODUCT,
            bcdDevice=1, iManufacturer=0, iProduct=0,
            iSerialNumber=0, bNumConfigurations=1, bus=1, address=5, port_number=1,
            port_numbers=(1,), speed=3,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: Any, config: int) -> Any:
        if config:
            raise IndexError
        return types.SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=39, bNumInterfaces=1, bConfigurationValue=1,
            iConfiguration=0, bmAttributes=128, bMaxPower=250, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: Any, intf: int, alt: int, config: int) -> Any:
        if intf or alt:
            raise IndexError
        return types.SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=0, bAlternateSetting=0, bNumEndpoints=3,
            bInterfaceClass=255, bInterfaceSubClass=0, bInterfaceProtocol=0, iInterface=0,
            extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: Any, ep: int, intf: int, alt: int, config: int) -> Any:
        address = (OUT, SPECTRA, QUERIES)[ep]
        return types.SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=address, bmAttributes=2, wMaxPacketSize=64,
            bInterval=0, bRefresh=0, bSynchAddress=0, extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: Any) -> Any:
        if self.fault() == "permission":
            raise USBError("Access denied (insufficient permissions)", -3, 13)
        return "handle"

    def close_device(self, handle: Any) -> None:
        note(self.state, closed=True)

    def set_configuration(self, handle: Any, value: int) -> None:
        if self.fault() == "busy":
            raise USBError("Resource busy", -6, 16)

    def get_configuration(self, handle: Any) -> int:
        return 1

    def is_kernel_driver_active(self, handle: Any, intf: int) -> bool:
        return False

    def claim_interface(self, handle: Any, intf: int) -> None: ...
    def release_interface(self, handle: Any, intf: int) -> None: ...
    def reset_device(self, handle: Any) -> None: ...

    # -- what the spectrometer answers ----------------------------------------------------------------

    def bulk_write(self, handle: Any, ep: int, intf: int, data: Any, timeout: int) -> int:
        self.alive()
        command, rest = data[0], bytes(data[1:])
        if command == 0x01:
            self.number = -1
        elif command == 0x02:  # integration time; a spectrum may have been begun before
            self.micros = int.from_bytes(rest[:4], "little") * 1000
            note(self.state, micros=self.micros)
        elif command == 0x0A:
            note(self.state, trigger=rest[0])
        elif command == 0x05:
            slot = rest[0]
            text = "USB2E1234" if slot == 0 else COEFFICIENTS[slot - 1] if slot <= 4 else "0"
            self.answer = (bytes([5, slot]) + text.encode() + bytes(17))[:17]
        elif command == 0x09:
            self.number += 1
            self.answer = b""
        return len(data)

    def bulk_read(self, handle: Any, ep: int, intf: int, buffer: Any, timeout: int) -> int:
        self.alive()
        if ep == QUERIES:
            content = self.answer
        else:
            if self.fault() == "hang" and self.number > 5:
                time.sleep(3600)
            if self.fault() == "crash" and self.number > 5:
                import os

                os.kill(os.getpid(), 11)
            if self.fault() == "no trigger":
                time.sleep(0.05)
                raise USBTimeoutError("Operation timed out", -7, 110)
            time.sleep(self.micros / 1e6)
            content = bytearray(2 * PIXELS + 1)
            # The first one was begun with the settings of before.
            values = np.full(PIXELS, 4095, "<u2") if self.number == 0 else spectrum(self.number - 1)
            np.frombuffer(content, np.uint8)[order()] = values.view(np.uint8)
            content[-1] = 0x69
        buffer[: len(content)] = type(buffer)("B", bytes(content))
        return len(content)

    def alive(self) -> None:
        if self.fault() == "unplugged":
            raise USBError("No such device (it may have been disconnected)", -4, 19)


def install(state: Path) -> None:
    """Make it a backend of PyUSB in this process."""
    Backend.state = state
    module = types.ModuleType("usb.backend.standin")
    backend = Backend()
    module.get_backend = lambda: backend  # type: ignore[attr-defined]
    sys.modules["usb.backend.standin"] = module
