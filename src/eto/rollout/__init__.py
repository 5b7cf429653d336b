"""Episodes, many at once.

rollouts      episodes of an actor, and how they are seeded
episode       one episode, from reset to end
replay        trajectories from elsewhere, played again
experts       verified trajectories of a suite's experts
slots         what plays when: admission and retries
simulators    a pool's simulators, awaited
blocking      an asynchronous generator for callers that are not
"""
