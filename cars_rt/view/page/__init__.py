"""The page: a Bokeh document for each browser that looks, beside HTML of its own for words and controls."""
