# SPDX-License-Identifier: LGPL-2.1-or-later

"""From a text in any form to the lines that the kernel wrote."""
