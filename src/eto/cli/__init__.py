"""The `eto` command: the one place where names meet classes.

Commands import what they need when they run, so `eto --help` loads neither torch nor
transformers.

- `agents`: what a training by itself says of the agent it made
- `commands`: the commands and their options
- `commands_on_data`: those that take data in and out
- `commands_on_models`: those on models: taken out, and watched as they play
- `commands_on_runs`: those that look at runs
- `compare`: `eto compare`
- `compare_models`: `eto compare-models`
- `completion`: what shells offer
- `compose`: the recipe of a command
- `doctor`: `eto doctor`
- `effect`: which fields each command reads
- `entry`: exit codes, and errors as one message
- `environments`: `eto environments`, `eto serve-environment`
- `events`: a run as JSON lines
- `export_model`: `eto export-model`
- `exporting`: `eto export`
- `hub`: folders for a model hub, and their upload
- `importing`: `eto import`
- `kept`: a command's episodes beside its output, so that it resumes
- `listing`: the commands in the help
- `outputs`: outputs checked before the work starts
- `panel`: the live stages of a run
- `plan`: `eto run --plan`
- `play`: `eto play`
- `progress`: one live line per stage
- `replaying`: `eto replay`
- `recipes`: `eto recipes`
- `report`: `eto report` of one run
- `run`: `eto run`
- `runs`: `eto runs`
- `score_pairs`: `eto score-pairs`
- `serving`: servers of ours, until they are interrupted
- `show`: `eto show`
- `show_mask`: `eto show-mask`
- `stages`: single stages on files
- `stopping`: Ctrl-C and signals, and how to resume
- `streams`: standard streams that accept any text
- `sweep`: `eto sweep`
- `tables`: tables of a terminal's width, Markdown elsewhere
- `terminal`: the one way to print: text as it is
- `training`: `eto sft` and `eto dpo`
- `view`: `eto view`
"""

from eto.cli import commands_on_data, commands_on_models, commands_on_runs
from eto.cli.commands import app
from eto.cli.entry import main

__all__ = ["app", "commands_on_data", "commands_on_models", "commands_on_runs", "main"]
