# SPDX-License-Identifier: LGPL-2.1-or-later

"""Puts the manual page, made from the parser, into the wheel; all else is in pyproject.toml."""

import os
import sys

from build_manpages import build_manpages, get_build_py_cmd, get_install_cmd
from setuptools import setup

# setuptools.build_meta does not search the source directory for modules.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

setup(
    cmdclass={
        "build_manpages": build_manpages,
        "build_py": get_build_py_cmd(),
        "install": get_install_cmd(),
    }
)
