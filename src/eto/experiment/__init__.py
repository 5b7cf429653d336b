"""A recipe from start to report, and what a training method sees of it.

- `acting`: who writes the actions: this process, or an engine that gets the weights
- `comparison`: methods under one budget, beside their controls
- `comparison_place`: the directory of a comparison, and what is refused
- `compose`: from a recipe to the objects it names
- `experiment`: experts, the method's stages, the test of its agents
- `fork`: finished stages of another run, taken into a new one
- `lab`: a run as a method sees it
- `loading`: the model, loaded while the expert's trajectories are collected
- `needs`: what methods need that a run lacks, and which would do
- `play`: episodes and experts, kept and shown as they end
- `recipe`: recipes read, overridden, compared
- `recipe_earlier`: recipes of the earlier form, rewritten
- `recipe_errors`: what is wrong with a recipe, by line and field
- `recipe_fields`: a recipe, composed of settings; a walk over its fields
- `recipe_yaml`: YAML within bounds, every field with its line
- `run`: the run directory: lock, stages, manifest, metrics, resume
- `run_records`: the records of a run, each checked
- `shipped`: the recipes that the package carries
- `sources`: runs that a new run can take stages from
- `stage`: a stage while it is open: notes and wall time
- `sweep`: settings varied one at a time, judged on dev tasks
- `tested`: test episodes of agents that two runs have in common
- `tracked_rows`: rows of metrics as trackers take them
- `trackers`: each tracker by name, through accelerate
- `tracking`: a run's metrics sent to trackers while it goes on
- `variants`: one recipe with several methods
- `watch`: observers of a run
"""
