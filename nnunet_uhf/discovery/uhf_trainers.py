"""Shows nnU-Net the trainers.

nnU-Net imports every module of this folder and forgets it again afterwards, so the classes themselves live in
:mod:`nnunet_uhf.trainers`: there they are imported once, and worker processes can unpickle them.
"""

from nnunet_uhf.trainers import *  # noqa: F403 - the names are the trainers' ``__all__``
from nnunet_uhf.trainers import __getattr__  # noqa: F401 - those of a fixed length, made on demand
