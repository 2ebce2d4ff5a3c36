"""The composition root of the packages: settings, wiring, the command line and the embedded server."""

__version__ = "0.1.0"
