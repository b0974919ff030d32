# SPDX-License-Identifier: LGPL-2.1-or-later

"""Puts the manual page, made from the parser, into the wheel; all else is in pyproject.toml."""

from build_manpages import build_manpages, get_build_py_cmd, get_install_cmd
from setuptools import setup

setup(
    cmdclass={
        "build_manpages": build_manpages,
        "build_py": get_build_py_cmd(),
        "install": get_install_cmd(),
    }
)
