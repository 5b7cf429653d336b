"""Environments behind servers and in other libraries, and ours behind a server.

- `agentgym`: environments behind an AgentGym server
- `gymnasium_text`: Gymnasium environments that speak text
- `openenv`: environments behind an OpenEnv server
- `openenv_fields`: which of its fields carry text
- `proxies`: no proxy for servers on this machine
- `serving`: our environments over the same protocol
"""
