# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lines with which a dump of registers and functions begins or ends, in lower case."""

from __future__ import annotations

import re

OTHER_DUMP = re.compile(
    r"kernel bug at|warning: (?:cpu: |at |(?:\[.{1,256}?\] )?\S+\.[ch]:\d+ at )|nmi backtrace"
    r"|bug: (?:k[a-z]{1,2}san|kfence): |info: (?:task|rcu)"
    r"|lockup (?:- |on cpu)|general protection fault(?! ip:)|invalid opcode|divide error"
    r"|stack segment|oops: (?!oops|bad pagetable|total \d)[a-z]|sysrq: "
)
"""
How a dump begins that no page fault caused.

Of a process's fault (``ip:``), the kernel dumps none; ``Oops: Total`` is a head line of pstore.
"""

EARLIER_STACKS = tuple(
    (keyword, re.compile(pattern))
    for keyword, pattern in (
        # What happened to the memory before.
        ("by task ", r"\b(?:allocated|freed) by task \d"),
        (" age=", r"\b(?:allocated|freed) in \S{1,256}(?: \[[^]]{1,128}\])? age="),
        ("page ", r"\bpage (?:last (?:allocated|free)|allocated via order)\b"),
        ("work creation:", r"\bpotentially related work creation:"),
        ("uninit was ", r"\buninit was (?:created|stored)\b"),
        ("unreferenced object", r"\bunreferenced object\b"),
        # Lockdep, other tasks, traces, and /proc/PID/stack.
        ("irqs last ", r"\b(?:hard|soft)irqs last (?:en|dis)abled at "),
        ("held ", r"\blocks? held (?:by|in) "),
        (" lock", r"\bis trying to (?:acquire|release) lock"),
        ("disabled at:", r"\bpreemption disabled at:"),
        ("task:", r"\btask:.{1,64}? state:[a-z]\b"),
        ("<stack", r"<stack trace>"),
        ("unchecked msr", r"\bunchecked msr access error: "),
        ("[<0>]", r"\[<0>\]"),
    )
)
"""
Text that each such line holds, and its pattern: a line before a stack of another event, such as
KASAN's of the allocation, or of another task.
"""

TASK = re.compile(
    r"\bcpu: ?\d{1,6} (?:uid: \d{1,10} )?pid: \d{1,10} comm: .{1,80}?"
    r"(?:not tainted|tainted: [a-z -]{1,60}?) \d"
)
"""
The line of each dump that names its task, and how the kernel was tainted: the first oops of a boot
taints it.
"""

END = re.compile(r"---\[ end trace ")
"""
The last line of an oops. The registers and the function after it are those of the boot's first
oops, whichever it ends (``oops_end()`` of ``arch/x86/kernel/dumpstack.c``).
"""
