"""One readable file a method; each body is the paper's algorithm."""
