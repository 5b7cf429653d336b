"""The public interface: `eto/__init__.py` loads each of these names on first use."""

from .algorithms.dpo import dpo as dpo
from .algorithms.sft import sft as sft
from .contrast import contrast as contrast
from .environments import load_suite as load_suite
from .environments.pool import collect_experts as collect_experts
from .errors import EngineFailure as EngineFailure
from .errors import EnvironmentFailure as EnvironmentFailure
from .errors import EtoError as EtoError
from .errors import InputError as InputError
from .errors import MissingRequirement as MissingRequirement
from .errors import RecipeError as RecipeError
from .errors import RunConflict as RunConflict
from .formats import read_pairs as read_pairs
from .formats import read_trajectories as read_trajectories
from .formats import write_pairs as write_pairs
from .formats import write_trajectories as write_trajectories
from .policies.transformers import load_policy as load_policy
from .protocols import Environment as Environment
from .protocols import Step as Step
from .protocols import TaskSuite as TaskSuite
from .recipe import Recipe as Recipe
from .recipe import load_recipe as load_recipe
from .rollout.replay import replay as replay
from .rollout.rollouts import RolloutSettings as RolloutSettings
from .rollout.rollouts import rollouts as rollouts
from .settings import ContrastSettings as ContrastSettings
from .settings import DpoSettings as DpoSettings
from .settings import GuardSettings as GuardSettings
from .settings import SftSettings as SftSettings
from .statistics import summarise as summarise
from .store import TrajectoryStore as TrajectoryStore
from .types import Message as Message
from .types import Pair as Pair
from .types import StopReason as StopReason
from .types import Task as Task
from .types import ToolCall as ToolCall
from .types import Trajectory as Trajectory
from .types import Turn as Turn

__version__: str
