# SPDX-License-Identifier: LGPL-2.1-or-later

"""What was found, as text: for people and for programs."""
