# SPDX-License-Identifier: LGPL-2.1-or-later

"""A synthetic kernel: its model, its memory as the model says, and random models."""
