# SPDX-License-Identifier: LGPL-2.1-or-later

"""Output: reports, findings and explanations as text, for people and for programs."""
