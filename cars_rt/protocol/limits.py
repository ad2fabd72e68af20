"""Limits of the wire format, each with its reason. What exceeds one is refused before it costs memory."""

VERSION = 1

MAX_HEADER_BYTES = 64 * 1024  # a header holds names and numbers; arrays travel as parts of their own
MAX_ITEMS = 1_024  # entries of one list or map in a header; their length is announced before they come
MAX_PARTS = 8  # topic, header and at most six arrays
MAX_PIXELS = 65_536  # the widest spectrometer cameras have 4096; Fourier-transform CARS reaches 30,000
MAX_BLOCK = 4_096  # spectra in one frame; more only adds latency
MAX_BANDS = 32  # bands that the preview computes; more would be a spectrum
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024  # one array; bounds what a receiver allocates for one message
MAX_RAMAN_SHIFT = 100_000.0  # cm-1, either sign: beyond optical transitions; bounds grids made from an axis
MAX_NAME = 64  # characters of a name: run (a UUID has 36), array, cause of loss
MAX_TEXT = 1_024  # characters of any other text in a header
MAX_CARD = 32 * 1024  # characters of one text about the model; its card is one of them
MAX_FACTS = 32  # entries of a map of facts, such as that of the calibration, and numbers in one of them
MAX_COUNT = 2**53  # spectra, frames, indices: exact in a float64, and sums of a thousand fit 64 bits
MAX_TIME = 2**63 - 1  # ns: a signed 64-bit integer, until the year 2262
MAX_DELAY_S = 1_000_000  # between spectra of one frame: in ns still exact in a float64
