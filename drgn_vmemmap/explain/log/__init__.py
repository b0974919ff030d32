# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a log names: from its lines to mentions, with what other lines say of each."""
