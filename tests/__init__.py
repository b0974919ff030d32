# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Tests on a synthetic image of a kernel.

``model.py`` says in plain data what a kernel is like, and what must be reported of it; ``image.py``
builds that kernel's memory, which ``physical.py`` and ``kernels.py`` know how to write down;
``reference.py`` walks its page tables the slow, obvious way; ``strategies.py`` draws models.
"""
