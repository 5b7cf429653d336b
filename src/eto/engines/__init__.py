"""Engines: token ids in, token ids and their log-probs out. See `eto.protocols.Engine`.

actor          an engine with what lays conversations out for it: what an episode needs
in_process     a transformers model in this process
turns          giving way in the event loop
scripted       a function in place of a model, for tests and baselines
"""
