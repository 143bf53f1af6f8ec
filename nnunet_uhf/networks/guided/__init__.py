"""A segmentation network, a frozen keeper and the fusions between them. Imports `networks`."""
