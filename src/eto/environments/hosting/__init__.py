"""Simulators in worker processes: deadlines, memory limits, isolated failures.

- `boundary`: calls into a user's code: its exceptions, its answers checked
- `failures`: failure reasons, counted
- `host`: simulators in one process, experts verified
- `java`: a Java runtime; capped JVMs, shared and recycled
- `pool`: many environments at once, with deadlines
- `process`: the parent's side of a worker process
- `process_memory`: memory of a worker process and its children
- `requests`: requests to simulators, and their answers
- `worker`: a worker process: a host behind a pipe
"""
