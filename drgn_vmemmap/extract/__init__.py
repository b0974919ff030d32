# SPDX-License-Identifier: LGPL-2.1-or-later

"""The smallest vmcore that gives the same report, without user data."""
