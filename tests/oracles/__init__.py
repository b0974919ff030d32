# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is right, found another way: by the obvious walk of the page tables, and from the model."""
