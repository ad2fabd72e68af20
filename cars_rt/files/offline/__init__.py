"""`cars-rt process`: the deployment graph on files, without sockets.

    recipe      what is done to counts, and by what a file of results is known as that of these counts
    retrieval   an engine on stored counts: rows of results, the same as the daemon sends, piece by piece
    program     from one file to another
    cluster     the same by the workers of a Dask cluster: worker is what they do, parts are what they leave
    jobs        which files become which

Read, computed and written piece by piece, so that memory does not grow with the file. What was computed
before a kill is taken over by the next attempt, see `cars_rt.files.resumed`.
"""

from cars_rt.files.offline.program import Processed, process
from cars_rt.files.offline.recipe import Recipe

__all__ = ["Processed", "Recipe", "process"]
