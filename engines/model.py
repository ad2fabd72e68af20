"""Models: a trained network as an ONNX file with its card."""

import errno
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cars_rt.engines.soundness import fault, said
from cars_rt.errors import CarsRtError
from cars_rt.physics.quantity import COUNTS, RATIO, SCALED
from cars_rt.printable import printable
from cars_rt.storage import read_bytes

CARD_KEY = "cars_rt.card"
DEFAULT_MODEL = "cnn"
CLASSICAL = ("kk", "mem")  # made by mathematics, not read from a file
SHIPPED = Path(__file__).parent / "models"
SCALINGS = ("mean", "minmax")
TARGETS = (RATIO, SCALED)
MAX_CARD = 16 * 1024  # characters; the card travels with every run
MAX_NAME = 80  # characters of a name or a version
MAX_POINTS = 65536  # of a network that takes one length
MAX_MODEL_BYTES = 512 * 1024 * 1024  # far above any network for spectra; bounds what a file costs


TEXT, WHOLE, OBJECT = ("text", str), ("a whole number", int), ("an object", dict)
#: What the entries of a card are; of its `network` nothing is wanted.
KINDS: Mapping[str, tuple[str, type | tuple[type, ...]]] = {
    "name": TEXT, "version": TEXT, "network": TEXT, "grid_step_cm1": ("a number", (int, float)),
    "stride": WHOLE, "min_length": WHOLE, "scaling": TEXT, "target": TEXT, "description": TEXT,
    "training": OBJECT, "accuracy": OBJECT, "fixed_length": WHOLE,
    "pitch_cm1": ("a list of numbers", (list, tuple)),
}  # fmt: skip


class ModelError(CarsRtError, ValueError):
    """A model that cannot be found or used, with the reason in one sentence."""


@dataclass(frozen=True)
class Card:
    """What a model says of itself, read from the ONNX file's metadata."""

    name: str
    version: str
    grid_step_cm1: float  # of the grid that it is given where it cannot take the camera's pixels
    stride: int  # its input length must be a multiple of this
    min_length: int
    scaling: str  # "mean": counts over the spectrum's mean; "minmax": its minimum to 0, its maximum to 1
    target: str  # "ratio": Im{chi_R} / chi_NR; "chi3": Im chi_R scaled to max |chi_R| = 1
    description: str
    training: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    fixed_length: int = 0  # points that it takes, spread over the whole axis; 0: any number
    pitch_cm1: Sequence[float] = ()  # least and largest step of pixels that it takes as they are; (): none

    @property
    def takes_pixels(self) -> bool:
        """Whether it can see a camera's pixels without a grid."""
        return len(self.pitch_cm1) == 2


@dataclass(frozen=True)
class Model:
    """A model's bytes, its card and its hash."""

    onnx: bytes
    card: Card
    sha256: str

    def for_points(self, raman_shift: NDArray[np.float64]) -> tuple[bytes, Mapping[str, NDArray[np.float32]]]:
        """The network for spectra on these points (n,), cm-1, as ONNX, and what it takes beside them and
        their pitch, by name. A trained one is always the same, and takes nothing."""
        return self.onnx, {}

    def flattening(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Factors for counts above dark on this axis, (pixels,), applied before all else; None: no
        factors."""
        return None

    def of_source(self, source: str | None) -> "Model":
        """This model for spectra of an instrument, without a reference that was measured with another one."""
        return self

    @property
    def unused(self) -> str | None:
        """Which part of it is not used for an instrument, and why; None if all of it is."""
        return None

    @property
    def most_points(self) -> float:
        """The longest spectrum that it takes where it takes many lengths; axes of more go by a grid."""
        return math.inf

    @property
    def nominal_axis(self) -> NDArray[np.float64]:
        """An axis for which it can be composed before an instrument tells its own, (pixels,), cm-1."""
        return np.linspace(400, 3400, 1340)

    def provenance(self, *, retrieves: bool) -> dict[str, str]:
        """What travels with every result. retrieves: whether its engine runs the model."""
        card = self.card
        return {
            "name": card.name,
            "version": card.version,
            "target": card.target if retrieves else COUNTS,
            "sha256": self.sha256,
            "card": json.dumps(asdict(card)),
        }


def shipped_models() -> dict[str, str]:
    """Names of the shipped models and the SHA-256 of each file."""
    listing = (SHIPPED / "SHA256SUMS").read_text(encoding="ascii").split()
    return {Path(name).stem: digest for digest, name in zip(listing[::2], listing[1::2], strict=True)}


def load_model(name: str = DEFAULT_MODEL, others: Sequence[str] = ()) -> Model:
    """A shipped model by name, or any model by the path of its .onnx file.

    others: names that whoever asks would have taken besides, for the sentence about one that is none. A
    shipped file must have the hash it was shipped with. Raises ModelError.
    """
    shipped = shipped_models()
    path = SHIPPED / f"{name}.onnx" if name in shipped else Path(name)
    shown = printable(path)  # it may come from anybody who asks the daemon
    if name not in shipped and path.suffix != ".onnx":
        known = ", ".join(sorted([*shipped, *others]))
        raise ModelError(f"no model is called {name!r}; there are {known}, or give the path of an .onnx file")
    try:
        no_file = path.exists() and not path.is_file()
        content = b"" if no_file else read_bytes(path, MAX_MODEL_BYTES)
    except (OSError, ValueError) as error:  # a name with a zero in it
        if getattr(error, "errno", None) == errno.EFBIG:
            raise ModelError(
                f"{shown} is larger than {MAX_MODEL_BYTES // 2**20} MB, the limit for a model"
            ) from None
        raise ModelError(
            f"cannot read the model {shown}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if no_file:
        raise ModelError(f"{shown} is no file; a model is an .onnx file")
    if not content:
        raise ModelError(f"{shown} is empty; a model is an .onnx file")
    digest = hashlib.sha256(content).hexdigest()
    if name in shipped and digest != shipped[name]:
        raise ModelError(f"{shown} differs from the file that was shipped; install CARS-RT again")
    proto = _parsed(content, shown)
    card = _read_card(proto, shown)
    if reason := fault(proto, card.fixed_length):
        raise ModelError(f"the model {shown} {reason}")
    return Model(content, card, digest)


def _parsed(content: bytes, path: str) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises its own, undocumented kinds
        raise ModelError(f"{path} is not an ONNX file ({type(error).__name__})") from None


def _read_card(proto: onnx.ModelProto, path: str) -> Card:
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    if CARD_KEY not in metadata:
        raise ModelError(f"{path} has no model card; docs/engines.md, 'A model of your own', gives it one")
    if len(metadata[CARD_KEY]) > MAX_CARD:
        raise ModelError(f"the card of {path} is longer than {MAX_CARD} characters, the limit")
    try:
        raw = json.loads(metadata[CARD_KEY], parse_constant=_no_constant, object_pairs_hook=_no_repeats)
        card = _card(raw)
        travelling = len(json.dumps(asdict(card), allow_nan=False))
    except KeyError as error:
        raise ModelError(f"the card of {path} does not say its {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"the card of {path} cannot be read: {said(error)}") from None
    if travelling > MAX_CARD:
        raise ModelError(f"the card of {path} is longer than {MAX_CARD} characters, the limit")
    if card.name in CLASSICAL:
        raise ModelError(
            f"the card of {path} has the name {card.name}, which is not a network's; choose another"
        )
    if not (is_word(card.name) and is_word(card.version)):
        raise ModelError(f"the card of {path} has a name or version that cannot be printed in one line")
    if not 0.01 <= card.grid_step_cm1 <= 100 or not 1 <= card.stride <= 4096:
        raise ModelError(f"the card of {path} has an impossible grid step or stride")
    if not 1 <= card.min_length <= MAX_POINTS:
        raise ModelError(
            f"the card of {path} has the min_length {card.min_length}; 1 to {MAX_POINTS} is possible"
        )
    fixed = card.fixed_length
    if fixed and (not 2 <= fixed <= MAX_POINTS or fixed % card.stride):
        raise ModelError(
            f"the card of {path} has the fixed length {fixed}: that must be a multiple of its stride, "
            f"{card.stride}, and at most {MAX_POINTS}"
        )
    if card.pitch_cm1 and not (card.takes_pixels and 0 < card.pitch_cm1[0] <= card.pitch_cm1[1] < math.inf):
        raise ModelError(f"the card of {path} has a pitch_cm1 that is no range of steps")
    for word, value, known in (("scaling", card.scaling, SCALINGS), ("target", card.target, TARGETS)):
        if value not in known:
            raise ModelError(f"{path} has the unknown {word} {value!r}; there are {', '.join(known)}")
    return card


def _card(raw: Any) -> Card:
    """Raises KeyError for what is missing, ValueError for what is unknown or of another kind."""
    if not isinstance(raw, dict):
        raise ValueError("it is no object")
    if unknown := raw.keys() - KINDS.keys():
        raise ValueError(f"{min(unknown)!r} is no entry of a card; there are {', '.join(KINDS)}")
    given = {each.name: each.default for each in fields(Card) if each.default is not MISSING}
    given |= {"network": "", "description": "", "training": {}, "accuracy": {}} | raw
    for name, (words, kind) in KINDS.items():
        if not isinstance(given[name], kind) or isinstance(given[name], bool):
            raise ValueError(f"its {name} is not {words}")
    if any(type(each) not in (int, float) for each in given["pitch_cm1"]):
        raise ValueError("its pitch_cm1 is not a list of numbers")
    del given["network"]
    given["grid_step_cm1"] = float(given["grid_step_cm1"])
    given["pitch_cm1"] = tuple(map(float, given["pitch_cm1"]))
    return Card(**given)


def is_word(text: str) -> bool:
    """Whether a card may have this as its name or version."""
    return text.isprintable() and 0 < len(text) <= MAX_NAME


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what is said twice: readers differ in which one holds."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it says the same thing twice")
    return found


def _no_constant(word: str) -> float:
    """Refuse Infinity and NaN, which JSON does not have and readers of our headers need not know."""
    raise ValueError(f"{word} is no number of JSON")
