# SPDX-License-Identifier: LGPL-2.1-or-later

"""The tests; ``README.md`` beside this file is their plan."""
