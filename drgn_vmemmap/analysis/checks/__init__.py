# SPDX-License-Identifier: LGPL-2.1-or-later

"""The checks that only ``verify`` makes: a module for each kind."""
