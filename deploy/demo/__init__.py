"""A client of the public API, and the story that `make demo` tells with it."""
