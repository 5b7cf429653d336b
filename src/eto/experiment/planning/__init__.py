"""`eto run --plan`: what a run will take, before anything is spent.

- `checks`: what can be checked without the hardware
- `hardware`: this machine, or GPUs by name
- `lengths`: how long episodes are
- `memory`: bytes, by what they hold
- `plan`: all of it, of a recipe
- `work`: tokens and hours of each stage
"""
