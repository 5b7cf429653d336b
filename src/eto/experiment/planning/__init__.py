"""`eto run --plan`: what a run will take, before anything is spent.

- `acting`: bytes of acting, by where it is done
- `checks`: what can be checked without the hardware
- `hardware`: this machine, or GPUs by name
- `lengths`: how long episodes are
- `memory`: bytes, by what they hold
- `plan`: all of it, of a recipe
- `storage`: bytes of a parameter
- `work`: tokens and hours of each stage
"""
