"""ScienceWorld (Wang et al. 2022, arXiv:2203.07540): 30 kinds of experiments in text.

- `kinds`: its task types: variations, turn caps
- `paper_tasks`: the tasks as the paper chose them
- `prompts`: instructions and thoughts
- `suite`: its tasks, prompts and options
"""
