# SPDX-License-Identifier: LGPL-2.1-or-later

"""Tests of the vmemmap and of the frames that back it."""
