"""Registers the trainers when Python starts.

The build copies this file, under the name ``_nnunet_uhf_startup``, next to the package, together with a
``.pth`` file of the one line ``import _nnunet_uhf_startup``. It stands outside the package so that Python
still starts silently after somebody deleted the package's folder by hand.
"""

import os

try:
    from nnunet_uhf.installation.trainer_path import add_trainers

    add_trainers(os.environ)
except Exception:  # noqa: BLE001 - whatever is broken here, Python itself has to start
    pass
