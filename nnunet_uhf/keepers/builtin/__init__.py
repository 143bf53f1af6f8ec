"""The keeper files that come with the package, as `packaged` finds them."""
