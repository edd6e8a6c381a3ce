"""Files in and out, by the annotated type of the parameter that wants them.

Everything read is data: nothing is unpickled or evaluated, and what a file claims about itself is checked before use.
"""

from whp.io.columns import MAX_LEVELS
from whp.io.graphs import edge_weight
from whp.io.reading import ACCEPTED, Data, read
from whp.io.streams import Batch, Log
from whp.io.tables import Choice, class_columns
from whp.io.writing import save, write

__all__ = [
    "ACCEPTED",
    "MAX_LEVELS",
    "Batch",
    "Choice",
    "Data",
    "Log",
    "class_columns",
    "edge_weight",
    "read",
    "save",
    "write",
]
