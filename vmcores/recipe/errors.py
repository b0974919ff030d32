# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong, as one family of exceptions. Each message is one clear line."""

from __future__ import annotations


class RecipeError(Exception):
    """Something the recipe cannot go on without; the message says what, and what to do."""


class MissingError(RecipeError):
    """A kernel line, or a package of it, is not to be had from the archive (any more)."""


class ToolError(RecipeError):
    """A program of this machine is missing; the message names the Debian package to install."""


class GuestError(RecipeError):
    """A guest did not do what its scenario says: it panicked, ended early or ran out of time."""
