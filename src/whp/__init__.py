"""whp: methods with guarantees, each checked on your run."""

__version__ = "0.1.0"
