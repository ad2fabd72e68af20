"""The live display: a process of its own that shows in a browser what a daemon sends, or a recording."""
