#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Verify many vmcores, and write one table: which dump, host, time, verdict, savings.

Each dump is verified by a process of its own. One that is broken, or takes too long, has a row
that says so, and the others go on. Rows are written as dumps are done: started again with the same
table, the script leaves out what is in it, unless the dump has changed since.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

sys.path.append(str(Path(__file__).resolve().parents[2]))

import drgn_vmemmap
from drgn_vmemmap.cli import arguments, result
from drgn_vmemmap.cli.exit_codes import needs, say
from drgn_vmemmap.errors import printable
from drgn_vmemmap.output.report.csv import no_formula

COMMAND = (sys.executable, str(Path(drgn_vmemmap.__file__).parent / "__main__.py"))

DONE, BROKEN, USAGE, INCOMPLETE = 0, 1, 2, 3
"""Exit codes, as those of ``drgn-vmemmap``; 3 also when a dump could not be verified."""

VERDICTS = {0: "sound", 1: "broken", 3: "incomplete"}
"""What the exit codes of ``drgn-vmemmap verify`` mean for a dump that could be analysed."""

MAGIC = (b"KDUMP   ", b"DISKDUMP", b"makedumpfile")
NAMES = ("vmcore", "vmcore-incomplete")


@dataclass(frozen=True)
class Row:
    """One dump."""

    dump: str
    size: str
    modified: str
    """Of the file, in nanoseconds; a dump whose size or time differs has changed."""
    host: str = ""
    time: str = ""
    """Of the crash."""
    release: str = ""
    verdict: str = "failed"
    """sound, broken, incomplete; or failed, when the dump could not be analysed."""
    folios: str = ""
    optimized: str = ""
    saved: str = ""
    """Net, in bytes."""
    findings: str = ""
    """Rules with findings of severity error or warning, and how many; or why it failed."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.dump, self.size, self.modified


COLUMNS = [field.name for field in fields(Row)]
HEADER = ",".join(COLUMNS)


class NoTable(Exception):
    """A file is not a table of this script's: nothing in it is changed."""


class Table:
    """
    The table, a CSV file with a row for each dump; for a with statement.

    :raises BlockingIOError: if another process is writing it.
    :raises NoTable: if it is another kind of file, such as a dump.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise NoTable(f"{path} is no regular file")
        self._path = path.resolve()
        self._file = _opened(path, "a+")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(path)):
            raise BlockingIOError(f"{path} was just replaced")
        try:
            self.rows = {row.dump: row for row in self._read()}
        except csv.Error as error:
            raise NoTable(f"{path} is damaged: {error}") from error

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the table anew, in the order in which it is shown."""
        temporary = Path(f"{self._path}.tmp")
        with _opened(temporary, "w") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(map(asdict, self.ordered()))
        os.replace(temporary, self._path)
        self._file.close()

    def _read(self) -> Iterator[Row]:
        """The rows from before; a last one that was cut off is taken out."""
        self._file.seek(0)
        start = self._file.read(len(HEADER))
        if not HEADER.startswith(start):
            raise NoTable(f"{self._path} is no table of dumps: give another name")
        text = start + self._file.read()
        complete = text[: text.rfind("\n") + 1]
        if complete != text:
            self._file.truncate(len(complete.encode(*ENCODING)))
        if not complete:
            csv.DictWriter(self._file, COLUMNS).writeheader()
        for record in csv.DictReader(io.StringIO(complete, newline="")):
            if None not in record.values():
                yield Row(**{name: record[name] for name in COLUMNS})

    def add(self, row: Row) -> None:
        """Add a row, or put it in the place of the dump's earlier one."""
        self.rows[row.dump] = row
        csv.DictWriter(self._file, COLUMNS).writerow(asdict(row))
        self._file.flush()

    def ordered(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: (row.host, row.time, row.dump))


ENCODING = ("utf-8", "surrogateescape")
"""Encoding of the table, and its error handler: names of files may have any bytes."""


def _opened(path: Path, mode: str) -> IO[str]:
    encoding, errors = ENCODING
    return open(path, mode, newline="", encoding=encoding, errors=errors)


def find(paths: Iterable[Path]) -> Iterator[Path]:
    """Files as they are given; of folders, the files in them that are dumps."""
    for path in paths:
        if path.is_dir():
            yield from (found for found in sorted(path.rglob("*")) if _is_dump(found))
        else:
            yield path


def _is_dump(path: Path) -> bool:
    """Whether a file is a dump, by its name or by how it begins."""
    if not path.is_file():
        return False
    if path.name in NAMES or path.suffix == ".vmcore":
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(18)
    except OSError:
        return False
    is_elf_core = start[:4] == b"\x7fELF" and start[16:18] == b"\4\0"
    return is_elf_core or start.startswith(MAGIC)


def row_of(dump: Path) -> Row:
    """The row of a dump that was not verified."""
    try:
        status = dump.stat()
    except OSError:
        return Row(str(dump), "", "")
    return Row(str(dump), str(status.st_size), str(status.st_mtime_ns))


class Verifier:
    """Runs ``drgn-vmemmap verify``, in any thread."""

    def __init__(self, timeout: float) -> None:
        """:param timeout: Seconds after which a dump is given up."""
        self._timeout = timeout
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def row(self, dump: Path) -> Row:
        """Verify one dump."""
        row = row_of(dump)
        arguments = ["-q", "--no-default-symbols", "-c", str(dump), "verify", "--format", "json"]
        process = self._start([*COMMAND, *arguments])
        try:
            out, err = process.communicate(timeout=self._timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return replace(row, findings=f"it took more than {self._timeout:g} seconds")
        finally:
            self._running.discard(process)
        try:
            return replace(row, **_read_report(process.returncode, json.loads(out)))
        except (ValueError, KeyError):
            said = err.decode(errors="replace").splitlines()
            why = said[-1] if said else f"it ended with code {process.returncode} and said nothing"
            return replace(row, findings=printable(why.removeprefix("drgn-vmemmap: ")))

    def end(self) -> None:
        """End what runs, and start nothing more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise InterruptedError
            # In a session of its own, so that Ctrl-C is for this script alone to handle.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self._running.add(process)
            return process


def _read_report(code: int, report: dict[str, Any]) -> dict[str, str]:
    """The columns that a JSON report fills."""
    target, totals = report.get("target") or {}, report["totals"]
    counts: dict[str, int] = {}
    for finding in report["findings"]:
        if finding["severity"] != "info":
            counts[finding["rule"]] = counts.get(finding["rule"], 0) + 1
    return {
        "host": no_formula(target.get("host") or ""),
        "time": target.get("crash_time") or "",
        "release": no_formula(report["kernel"]["release"]),
        "verdict": VERDICTS[code],
        "folios": str(totals["folios"]),
        "optimized": str(totals["optimized"]),
        "saved": str(totals["net_saved_bytes"]),
        "findings": ", ".join(f"{rule} {count}" for rule, count in counts.items()),
    }


def run(options: argparse.Namespace) -> int:
    """
    Verify the dumps that are not in the table yet.

    :return: The exit code.
    """
    with Table(options.output) as table:
        paths = (path.absolute() for path in options.paths)
        todo = [dump for dump in find(paths) if _is_due(row_of(dump), table, options.retry)]
        for number, row in enumerate(_verified(todo, options), 1):
            table.add(row)
            say(f"{number}/{len(todo)} {printable(row.dump)}: {row.verdict}")
    result.write_on(shown(table.ordered()) + "\n")
    verdicts = {row.verdict for row in table.rows.values()}
    if "broken" in verdicts:
        return BROKEN
    return DONE if verdicts <= {"sound"} else INCOMPLETE


def _verified(dumps: Iterable[Path], options: argparse.Namespace) -> Iterator[Row]:
    """The rows of dumps, as they are done."""
    verifier = Verifier(options.timeout)
    with ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        running = [pool.submit(verifier.row, dump) for dump in dumps]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            verifier.end()


def _is_due(row: Row, table: Table, retry: bool) -> bool:
    known = table.rows.get(row.dump)
    if known is None or known.key != row.key:
        return True
    return retry and known.verdict == "failed"


def shown(rows: Iterable[Row]) -> str:
    """The table for people."""
    from tabulate import tabulate

    shown_fields = (
        (row.dump, row.host, row.time, row.verdict, _size(row.saved), row.findings) for row in rows
    )
    cells = [[*map(printable, fields)] for fields in shown_fields]
    return tabulate(
        cells,
        ("dump", "host", "time", "verdict", "saved", "findings"),
        colalign=("left", "left", "left", "left", "right", "left"),
        disable_numparse=True,
    )


def _size(number: str) -> str:
    try:
        return f"{int(number) / (1 << 20):,.1f} MiB"
    except (OverflowError, ValueError):
        return number  # empty, or damaged


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a dump, or a folder")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="TABLE", help="a CSV file"
    )
    parser.add_argument(
        "-j", "--jobs", type=arguments.number, default=os.cpu_count(), help="dumps at a time"
    )
    parser.add_argument(
        "--timeout", type=arguments.seconds, default=3600, help="seconds for each dump"
    )
    parser.add_argument("--retry", action="store_true", help="verify failed dumps again")
    return parser


def main() -> int:
    options = parser().parse_args()
    try:
        return run(options)
    except BlockingIOError:
        say(f"verify_dumps: another process writes {options.output}")
    except (NoTable, OSError) as error:
        say(f"verify_dumps: {printable(str(error))}")
    except ModuleNotFoundError as error:
        say(f"verify_dumps: {needs(error)}")
    except KeyboardInterrupt:
        say("verify_dumps: interrupted; start it again to go on")
        return 130
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
