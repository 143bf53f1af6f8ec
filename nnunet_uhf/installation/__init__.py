"""How nnU-Net finds the trainers. Imports nothing: it runs at every start of Python."""
