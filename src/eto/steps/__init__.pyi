"""The steps: `eto/steps/__init__.py` loads each of these names on first use."""

from .cloning import clone as clone
from .continuing import branch as branch
from .continuing import step_wise as step_wise
from .continuing import valued as valued
from .contrasting import contrast as contrast
from .criticising import advantages as advantages
from .criticising import update as update
from .evaluating import evaluate as evaluate
from .exploring import explore as explore
from .foreseeing import foresee as foresee
from .improving import improve as improve
from .needing import lacks as lacks
from .preferring import Round as Round
from .preferring import prefer as prefer
from .selecting import select as select
from .separating import separate as separate
