# SPDX-License-Identifier: LGPL-2.1-or-later

"""Files that people give in place of a text, and what to do with each."""

from __future__ import annotations

_OTHER_FILES = {
    b"\x7fELF": "an ELF file; a vmcore is given with -c",
    b"KDUMP   ": "a vmcore; give it with -c",
    b"DISKDUMP": "a vmcore; give it with -c",
    b"makedumpfile\0": "a flattened vmcore; give it to makedumpfile -R first",
    b"\x89PNG": "a picture; its text has to be typed in",
    b"\xff\xd8\xff": "a picture; its text has to be typed in",
    b"GIF8": "a picture; its text has to be typed in",
    b"%PDF": "a PDF file; copy its text",
}
_OTHER_FORMS = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x04\x22\x4d\x18": "compressed with lz4: unpack it first, with "
    "lz4 -dc FILE | drgn-vmemmap explain --stdin",
    b"\x89LZO": "compressed with lzop: unpack it first",
    b"LPKSHHRH": "a journal file; use journalctl -k --file",
    b"SQLite format 3\0": "a database; of rasdaemon's, use ras-mc-ctl --errors",
    b"PERFILE2": "data of perf; use perf script",
    b"\x17\x08Dtracing": "data of trace-cmd; use trace-cmd report",
}
"""Files that hold messages in another form, by their first bytes."""


class NotText(ValueError):
    """The input is no text; the message says what it is instead, in one line."""


class PackedText(NotText):
    """The input may have a text in it, and has to be unpacked first."""

    def __init__(self, what: str) -> None:
        """
        :param what: The input, and how to unpack it.
        """
        super().__init__(f"this is no text but {what}")
        self.what = what


def refuse_other_files(data: bytes) -> None:
    """
    :raises NotText: if some bytes begin as a file that is known to be no text.
    """
    for magic, name in _OTHER_FILES.items():
        if data.startswith(magic):
            raise NotText(f"this is no text but {name}")
    for magic, name in _OTHER_FORMS.items():
        if data.startswith(magic):
            raise PackedText(name)
