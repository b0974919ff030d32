# SPDX-License-Identifier: LGPL-2.1-or-later

"""Exit codes, and the one line on standard error that goes with each failure."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Callable, TextIO

from drgn_vmemmap.errors import printable
from drgn_vmemmap.requirements import check_drgn

if TYPE_CHECKING:
    from drgn_vmemmap.analysis.report import Report

NAME = "drgn-vmemmap"

DONE = 0
FOUND_ERRORS = 1
DIFFER = 1
CANNOT = 2
INCOMPLETE = 3


def exit_code_of(run: Callable[[], int | None]) -> int:
    """
    Run a command or a script, and report in one line what goes wrong.

    :param run: Returns an exit code; ``None`` for 0.
    :return: The exit code.
    """
    check_drgn()
    from drgn import FaultError

    from drgn_vmemmap.errors import CannotAnalyse, MissingFacts

    code = DONE
    try:
        code = run() or DONE
        _flush()
        return code
    except (MissingFacts, FaultError) as error:
        return fail(INCOMPLETE, str(error))
    except CannotAnalyse as error:
        return fail(CANNOT, str(error))
    except BrokenPipeError:
        # The reader has seen enough of the result, and the exit code says what it is.
        discard(sys.stdout)
        return code
    except UnicodeEncodeError as error:
        return fail(CANNOT, f"{error.encoding} cannot encode this result: write it with -o FILE")
    except OSError as error:
        if error.filename is None:
            discard(sys.stdout)
        return fail(CANNOT, _in_words(error))
    except KeyboardInterrupt:
        return fail(INCOMPLETE, "interrupted")
    except ModuleNotFoundError as error:
        return fail(CANNOT, needs(error))
    except MemoryError:
        return fail(CANNOT, "this needs more memory than this process may have: raise its limit")
    except Exception as error:
        return fail(CANNOT, f"internal error, please report it: {_with_place(error)}")


def needs(error: ModuleNotFoundError) -> str:
    """What to do where a package is missing, as beside a checkout that was not installed."""
    name = error.name or ""
    return f"needs {name}: pip install {name.partition('.')[0]}"


def write_output(text: str) -> int:
    """
    Write a text to standard output, without waiting for drgn.

    :return: The exit code. What goes wrong is reported in one line on standard error.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError as error:
        discard(sys.stdout)
        return fail(CANNOT, _in_words(error))
    return DONE


def _flush() -> None:
    """
    Write what is still buffered for standard output.

    :raises OSError: if that fails, or standard output was closed when this process began.
    """
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.flush()


def discard(stream: TextIO) -> None:
    """Discard what is still buffered for a stream, so that Python does not try again."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in_words(error: OSError) -> str:
    if error.filename is not None:
        return f"{error.filename or repr('')}: {error.strerror}"
    if error.errno == errno.EBADF:
        return "standard output is closed: redirect it to a file or a pipe"
    return error.strerror or str(error)


def _with_place(error: Exception) -> str:
    """An error that nobody foresaw, and the line that raised it."""
    import traceback

    *_, last = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"


def fail(code: int, message: str) -> int:
    """Print one line on standard error that says what is wrong, and return the exit code."""
    warn(message)
    return code


def warn(message: str) -> None:
    """Print one line on standard error, whatever characters a name in it has."""
    say(f"{NAME}: {printable(message)}")


def say(text: str) -> None:
    """
    Print lines on standard error.

    Where they cannot be written, as on a full disk, the exit code still says how it went.
    """
    if sys.stderr is None:
        return  # It is closed, and print() would take standard output in its place.
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def report_code(report: Report) -> int:
    """The exit code of a script that shows a report; one line says so if it is incomplete."""
    warn_if_incomplete(report)
    return INCOMPLETE if report.incomplete else DONE


def warn_if_incomplete(report: Report) -> None:
    """Say in one line why a report is incomplete, for an output that has no place for it."""
    reasons = [unrecognised.message for unrecognised in report.kernel.unrecognised]
    if report.lacks_memory:
        reasons.insert(0, "memory that was needed could not be read")
    if report.interrupted:
        reasons.insert(0, "the analysis was interrupted")
    if reasons:
        warn(f"incomplete: {'; '.join(reasons)}")


def verification_code(report: Report) -> int:
    """The exit code of a command that checks every rule."""
    if report.broken:
        return FOUND_ERRORS
    return INCOMPLETE if report.incomplete else DONE
