"""The tests; a package, so that those of the models can share their miniatures."""
