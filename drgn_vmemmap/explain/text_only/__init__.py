# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a text proves by itself, without a dump."""
