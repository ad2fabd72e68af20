"""The model through which a page and its browser speak: one text each way."""

from bokeh.core.properties import Int, String
from bokeh.model import DataModel


class Talk(DataModel):  # type: ignore[misc]
    """`said` is the server's text, as JSON, sent after what it belongs to; `asked` is the browser's."""

    said = String(default="{}")
    asked = String(default="")
    framed = Int(default=0)  # grows where plots are to show all there is again
    alive = Int(default=0)  # grows every few seconds, whatever else is sent
