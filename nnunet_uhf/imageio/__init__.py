"""NIfTI files in and out, planes of slices, and files that appear whole or not at all. Imports `errors`, `types`."""
