"""From a labelled dataset to the comparison, in one command that goes on where it stopped (`nnunet-uhf run`)."""
