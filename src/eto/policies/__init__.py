"""Language models that act: in process with transformers, or scripted."""
