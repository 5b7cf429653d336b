"""Episodes, many at once.

- `blocking`: an asynchronous generator for synchronous callers
- `episode`: one episode, from reset to end
- `experts`: verified trajectories of a suite's experts
- `replay`: trajectories from elsewhere, played again
- `rollouts`: episodes of an actor, and their seeds
- `simulators`: the simulators of a pool, awaited
- `slots`: admission and retries
"""
