"""The program of the child process that converts and runs LiteRT files: see `__main__.py`."""
