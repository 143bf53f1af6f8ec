"""The base of every trainer that makes images of images: where pairs come from, who learns, validation, log."""
