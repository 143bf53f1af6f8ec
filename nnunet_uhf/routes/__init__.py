"""What the `uhf` object of dataset.json asks for, a file a route. Imports `checks`, `networks`."""
