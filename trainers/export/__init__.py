"""A finished training as a keeper file."""
