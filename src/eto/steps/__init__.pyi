"""The steps: `eto/steps/__init__.py` loads each of these names on first use."""

from .cloning import clone as clone
from .continuing import branch as branch
from .continuing import step_wise as step_wise
from .continuing import valued as valued
from .contrasting import contrast as contrast
from .criticising import advantages as advantages
from .criticising import update as update
from .disputing import Disputed as Disputed
from .disputing import estimate as estimate
from .evaluating import evaluate as evaluate
from .exploring import explore as explore
from .foreseeing import foresee as foresee
from .improving import improve as improve
from .judging import judge as judge
from .nearing import check_encoder as check_encoder
from .nearing import nearness as nearness
from .needing import lacks as lacks
from .preferring import Round as Round
from .preferring import prefer as prefer
from .ranking import rank as rank
from .recalling import addressing_of as addressing_of
from .recalling import learn_addresses as learn_addresses
from .recalling import rehearsal as rehearsal
from .recalling import show as show
from .selecting import select as select
from .separating import separate as separate
