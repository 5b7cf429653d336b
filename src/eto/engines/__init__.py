"""Engines: token ids in, token ids and their log-probs out. See `eto.protocols.Engine`.

- `actor`: an engine with a renderer: what an episode needs
- `scripted`: a function in place of a model: tests and baselines
- `turns`: giving way in the event loop
"""
