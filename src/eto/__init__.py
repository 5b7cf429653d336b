"""ETO: train language-model agents by trial and error (arXiv 2403.02502)."""

__version__ = "0.1.0"
