# SPDX-License-Identifier: LGPL-2.1-or-later

"""What ``verify`` checks beyond a report: a module for each kind of check."""
