"""TextWorld (Cote et al. 2018, arXiv:1806.11532): games made by seed.

- `games`: games made by seed and cached
- `suite`: its prompts, commands and texts
"""
