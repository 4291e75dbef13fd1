"""A small shop: the service that the tests' hosts run."""
