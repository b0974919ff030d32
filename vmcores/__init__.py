# SPDX-License-Identifier: LGPL-2.1-or-later
"""Recorded vmcores of real kernels, and the recipe that makes them."""
