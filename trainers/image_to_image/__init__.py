"""The base of every trainer that makes images of images: pairs, augmentation, validation, log."""
