"""The programs of a measurement as one: started together, watched, restarted, and ended in order."""
