"""Engines: token ids in, token ids and their log-probs out. See `eto.protocols.Engine`.

- `actor`: an engine with a renderer: what an episode needs
- `event_loop`: an event loop in a thread of its own
- `opening`: engines outside this process, by name
- `scripted`: a function in place of a model: tests and baselines
- `served`: whether a server acts with the weights it was given
- `turns`: giving way in the event loop
"""
