"""The command line: ``whp list``, ``info``, ``run``, ``tour``, ``study``, ``bench``, and those that methods bring along."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``whp`` command.

    Exit codes: 0 when it ran, 2 for bad input, 3 when ``--require`` is not met, 130 after Ctrl-C.
    """
    from cyclopts import CycloptsError

    from whp.cli._app import application, complain

    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = application(tokens)(tokens)
    except KeyboardInterrupt:
        complain("interrupted; what had finished is kept")
        code = 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        code = 0
    except (
        CycloptsError,
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
        ModuleNotFoundError,
    ) as error:
        complain(str(error))
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
