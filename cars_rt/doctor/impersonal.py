"""Findings without what they tell about who works here."""

import getpass
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2]  # a checkout, or the folder of packages


def impersonal(value: Any) -> Any:
    """Plain data with folders of this computer by what they are, and the user's name nowhere in a path."""
    if isinstance(value, dict):
        return {name: impersonal(each) for name, each in value.items()}
    if isinstance(value, list):
        return [impersonal(each) for each in value]
    return _without(value) if isinstance(value, str) else value


def _without(text: str) -> str:
    places = {str(SOURCE): "CARS-RT", sys.prefix: "PYTHON", str(Path.cwd()): "."}
    with suppress(RuntimeError):  # nobody's home is known
        places[str(Path.home())] = "~"
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:  # in a container home may be /
            text = text.replace(place, places[place])
    with suppress(Exception):  # getpass raises what it likes where there is no name
        text = re.sub(rf"(?<=[/\\]){re.escape(getpass.getuser())}(?=[/\\])", "USER", text)
    return text
