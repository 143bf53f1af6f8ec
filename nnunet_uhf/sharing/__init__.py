"""Keeper files to and from the Hugging Face Hub: `nnunet-uhf push`, `nnunet-uhf pull`."""
