"""Environments behind servers and in other libraries, and ours behind a server.

- `agentgym`: environments behind an AgentGym server
- `gymnasium_text`: Gymnasium environments that speak text
- `openenv`: environments behind an OpenEnv server
- `openenv_fields`: which of its fields carry text
- `proxies`: no proxy for servers on this machine
- `reaching`: servers that are started again meanwhile
- `serving`: the sessions of a server over a suite of ours
- `serving_agentgym`: our environments over AgentGym's protocol
- `serving_openenv`: our environments over OpenEnv's protocol
- `serving_openenv_messages`: what is asked and answered over it
- `serving_openenv_session`: what is played over one connection
"""
