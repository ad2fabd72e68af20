"""The model through which a page and its browser speak: one text each way."""

from bokeh.core.properties import Int, String
from bokeh.model import DataModel


class Talk(DataModel):  # type: ignore[misc]
    """`said` by the server, as JSON, after what it belongs to was sent; `asked` by the browser, likewise."""

    said = String(default="{}")
    asked = String(default="")
    framed = Int(default=0)  # grows where plots are to show all there is again
