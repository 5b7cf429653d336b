"""A recipe from start to report, and what a training method sees of it."""
