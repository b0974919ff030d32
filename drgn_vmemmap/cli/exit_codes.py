# SPDX-License-Identifier: LGPL-2.1-or-later

"""Exit codes, and the one line on standard error that goes with each failure."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Callable

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

    try:
        code = run()
        sys.stdout.flush()
        return code or DONE
    except (MissingFacts, FaultError) as error:
        return fail(INCOMPLETE, str(error))
    except CannotAnalyse as error:
        return fail(CANNOT, str(error))
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except UnicodeEncodeError as error:
        return fail(CANNOT, f"{error.encoding} cannot encode this result: write it with -o FILE")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(CANNOT, f"{where}{error.strerror or error}")
    except KeyboardInterrupt:
        return fail(INCOMPLETE, "interrupted")


def fail(code: int, message: str) -> int:
    """Print one line on standard error that says what is wrong, and return the exit code."""
    print(f"{NAME}: {message}", file=sys.stderr)
    return code


def verification_code(report: Report) -> int:
    """The exit code of a command that checks every rule."""
    if report.broken:
        return FOUND_ERRORS
    return INCOMPLETE if report.incomplete else DONE
