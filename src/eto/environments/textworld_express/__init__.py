"""TextWorldExpress (Jansen and Cote 2022, arXiv:2208.01174): eight fast text games.

- `prompts`: instructions and thoughts
- `suite`: eight games
"""
