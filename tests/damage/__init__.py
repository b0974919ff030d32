# SPDX-License-Identifier: LGPL-2.1-or-later

"""Damage to a sound kernel: a catalogue of faults, and random damage."""
