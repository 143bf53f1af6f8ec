"""Pictures of every case of a dataset, and a page that shows them all. Imports `datasets`, `routes`, `nnunet`."""
