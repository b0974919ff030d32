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

EARLIER_STACK = re.compile(
    r"\b(?:allocated|freed) (?:by task \d|in \S{1,256}(?: \[[^]]{1,128}\])? age=)"
    r"|\bpage (?:last (?:allocated|free)|allocated via order)\b"
    r"|\bpotentially related work creation:|\buninit was (?:created|stored)\b"
    r"|\bunreferenced object\b|\b(?:hard|soft)irqs last (?:en|dis)abled at |\[<0>\]"
    r"|\btask:.{1,64}? state:[a-z]\b|<stack trace>|\bunchecked msr access error: "
    r"|\blocks? held (?:by|in) |\bis trying to (?:acquire|release) lock|\bpreemption disabled at:"
)
"""
How functions begin that were not on the stack of what was named: something happened to memory
before, or they are what lockdep, traces, ``/sys/kernel/debug`` and ``/proc/PID/stack`` (``[<0>]``)
show, and the stacks of other tasks.
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
