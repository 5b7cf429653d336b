"""Data of other trainers: conversations and preference items, each field read or refused.

- `calls`: function calls and their schemas
- `conversations`: ShareGPT and OpenAI conversations to trajectories
- `fields`: rules for fields: read, refused or ignored
- `forms`: formats of items, and how to convert those that are not read
- `lists`: the fields of items and messages
- `messages`: messages: roles, order, thoughts, loss flags
- `parts`: content in parts
- `preferences`: preference items to pairs
- `told`: trajectories in ShareGPT, AgentTraj, OpenAI and TRL form
- `written`: pairs in ShareGPT and TRL form
"""
