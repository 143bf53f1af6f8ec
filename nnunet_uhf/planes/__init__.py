"""2D networks of three slice planes. Imports `evaluation`, `guidance` and what is below."""
