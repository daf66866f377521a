"""The version of this package, of its wheel and of the command."""

__version__ = "0.1.0"
