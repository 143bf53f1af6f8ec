"""Dataset conversion and low-field simulation."""
