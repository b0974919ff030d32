# SPDX-License-Identifier: LGPL-2.1-or-later

"""Tests of explanations and of the kernel's log."""
