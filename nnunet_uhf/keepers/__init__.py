"""The one file format of keepers: fields, header, file, statistics. Imports `networks`, `routes`, `nnunet`."""
