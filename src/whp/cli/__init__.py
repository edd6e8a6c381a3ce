"""The command line: ``whp list``, ``info``, ``run``, ``tour``, ``study``, ``bench``, and those that methods bring along."""

from __future__ import annotations

import dis
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``whp`` command.

    Exit codes: 0 when it ran, 1 when it broke, 2 for bad input, 3 when ``--require`` is not met, 130 after Ctrl-C. Bad input is
    answered with a sentence; what breaks by a fault of the program shows where.
    """
    from whp.cli._app import application
    from whp.cli._console import STDIN, complain, plain_streams

    plain_streams()
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if tokens[:1] == ["run"]:
        tokens = [STDIN if t == "-" else t for t in tokens]
    try:
        code = application(tokens)(tokens)
    except KeyboardInterrupt:
        # Impatience may repeat it, and must not break off what is said and ended now.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        complain("interrupted; what had finished is kept")
        code = 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        code = 0
    except MemoryError:
        complain("this does not fit into memory; a smaller input or smaller options may")
        code = 2
    except ArithmeticError as error:
        complain(f"an option is too large or too small to compute with ({error})")
        code = 2
    except Exception as error:
        if not meant(error):
            raise
        complain(str(error))
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def meant(error: Exception) -> bool:
    """Whether an exception speaks to the user: of a kind that bad input has, or raised on purpose in this package."""
    from cyclopts import CycloptsError

    if isinstance(error, CycloptsError | ValueError | OSError | ModuleNotFoundError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code = trace.tb_frame.f_code
    raised = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return raised and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "whp"
