# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Lines of failing memory that daemons write: mcelog and rasdaemon, and ``ras-mc-ctl``, which lists
what rasdaemon recorded.

They stand beside the kernel's lines in a journal, and do not depend on the kernel's version.
"""

from __future__ import annotations

from drgn_vmemmap.explain.messages.failures import OF_OTHER_MODE, POISON_DIGITS
from drgn_vmemmap.explain.messages.message import message
from drgn_vmemmap.explain.messages.versions import ALL

_NUMBER = r"[0-9a-f]{1,16}\b"

# Between a field's name and its number. A line that a mailer broke after the equals sign looks like
# quoted-printable, and has lost it.
_IS = "=? ?"

# A machine check is written as fields in the order of rasdaemon's code. AMD's processors name the
# kind of each bank (ipid), and the address is one of memory only if poison was read there, and not
# by a memory controller: see needs_poison() of failures.py. What follows an address must be there,
# too: the line may be cut before what says that it is none of memory.
_NO_KIND = (
    rf"\bstatus{_IS}[0-9a-f]{{16}},(?:(?!\bmisc{_IS}).){{1,600}}?"
    rf"(?:\bmisc{_IS}(?!{OF_OTHER_MODE}){_NUMBER}, {{1,2}})?"
    rf"\baddr{_IS}(?P<physical1>{_NUMBER})(?:, synd{_IS}{_NUMBER})?, (?!ip|sy)[\w=]{{4}}"
)
_POISON = (
    rf"\bstatus{_IS}{POISON_DIGITS}, .{{1,600}}?, addr{_IS}(?P<physical2>{_NUMBER})"
    rf"(?:, synd{_IS}{_NUMBER})?, ipid{_IS}(?!96[0-9a-f]{{8}}\b){_NUMBER}"
)

DAEMONS = (
    message(
        "machine check of mcelog",
        "misc ",
        # The kernel writes the address first.
        rf"\bMISC (?!{OF_OTHER_MODE}){_NUMBER} ADDR %physical",
        ALL,
        "dump_mce() of mcelog, mcelog.c",
    ),
    message(
        "page that mcelog takes offline",
        "page ",
        # The kernel's "Soft offlining page" names a PFN.
        r"\b(?:Corrected memory errors on|(?<!soft )Offlining|Soft offlining of) page "
        r"(?P<physical>[0-9a-f]{1,13}000)\b",
        ALL,
        "memory_offline(), offline_action() and account_page_error() of mcelog, page.c",
    ),
    message(
        "memory controller, by rasdaemon",
        " address: 0x",
        r"\(mc: \d{1,4}(?: location: [\d:-]{1,40})? address: %physical grain: ",
        ALL,
        "ras_mc_event_handler() of rasdaemon, ras-mc-handler.c",
    ),
    message(
        "memory controller, by ras-mc-ctl",
        ", addr ",
        # Where the driver knows no address, it is 0.
        r" location: [\d:-]{1,40}, addr (?P<decimal_physical>[1-9]\d{0,15}), grain ",
        ALL,
        "ras-mc-ctl of rasdaemon, which lists events of ras-mc-handler.c",
    ),
    message(
        "machine check, by rasdaemon",
        ", addr",
        rf"(?:{_NO_KIND}|{_POISON})",
        ALL,
        "report_mce_event() of rasdaemon, ras-mce-handler.c",
    ),
    message(
        "machine check, by ras-mc-ctl",
        ", addr=0x",
        # It does not say what kind a bank of AMD's processors is, and leaves out Intel's number, 0.
        r" error: (?:(?!, ?C ?P ?U ?[1-9]).){1,600}?, status=0x[0-9a-f]{16}, addr=%physical"
        rf", (?:misc=0x(?!{OF_OTHER_MODE}){_NUMBER},|(?!m)\w)",
        ALL,
        "ras-mc-ctl of rasdaemon, which lists events of ras-mce-handler.c",
    ),
    message(
        "firmware, by rasdaemon",
        " physical addr: 0x",
        r" physical addr: %physical mask: 0x",
        ALL,
        "report_extlog_mem_event() of rasdaemon, ras-extlog-handler.c",
    ),
    message(
        "firmware, by ras-mc-ctl",
        ", fru_id=",
        r", severity=[\w -]{1,40}, address=%physical, fru_id=",
        ALL,
        "ras-mc-ctl of rasdaemon, which lists events of ras-extlog-handler.c",
    ),
    message(
        "CXL, by rasdaemon",
        " hpa:0x",
        r"\bmemdev:.{1,1000}? hpa:0x(?P<physical1>[0-9a-f]{1,16})\b(?= )"
        r"(?: hpa_alias0:0x(?P<physical2>[0-9a-f]{1,16})\b)?",
        ALL,
        "ras_cxl_poison_event_handler() and others of rasdaemon, ras-cxl-handler.c",
    ),
    message(
        "page that rasdaemon takes offline",
        " at 0x",
        r"\b(?:Corrected Errors at (?=\w+ exceeded threshold)|offlin(?:e|ing) page at |"
        r"page at (?=\w+ is already offlined))%physical",
        ALL,
        "page_offline() and page_record() of rasdaemon, ras-page-isolation.c",
    ),
)
