# SPDX-License-Identifier: LGPL-2.1-or-later

"""The HTML report in a real browser: Debian's Chromium, without a window."""
