"""Durable execution: workflows that survive crashes."""

from .codec.layers import ZlibLayer
from .codec.payload import Codec, JsonCodec
from .engine.client.exporting import RunExport
from .engine.client.info import JournalEntry, RunInfo, Wait
from .engine.client.run import Run
from .engine.client.starting import Start
from .engine.clock import Host
from .engine.engine import Engine, Worker
from .engine.observer import Observer
from .engine.retention import Retention
from .errors import (
    DefinitionError,
    DuplicateRunError,
    DurableError,
    EncodingError,
    InvariantError,
    LeaseLostError,
    LimitExceededError,
    NondeterminismError,
    RunCancelled,
    RunFailed,
    RunFinishedError,
    RunNotFoundError,
    SchemaVersionError,
    StaleResumeError,
    StepFailed,
    StoreUnavailableError,
    TerminalError,
    WorkflowNotRegisteredError,
)
from .kernel.explain import Explanation
from .kernel.failure import Failure
from .kernel.limits import Limits
from .kernel.policy import Retry
from .workflow import (
    SKIP,
    TIMED_OUT,
    Branch,
    ChildHandle,
    Pending,
    Resumption,
    Step,
    StepContext,
    Suspend,
    Undo,
    Workflow,
    WorkflowContext,
    current_step,
    step,
)

# The decorator stands where the subpackage of its name would be found as an attribute.
from .workflow import workflow as workflow

__all__ = [
    "Branch",
    "ChildHandle",
    "Codec",
    "DefinitionError",
    "DuplicateRunError",
    "DurableError",
    "EncodingError",
    "Engine",
    "Explanation",
    "Failure",
    "Host",
    "InvariantError",
    "JournalEntry",
    "JsonCodec",
    "LeaseLostError",
    "LimitExceededError",
    "Limits",
    "NondeterminismError",
    "Observer",
    "Pending",
    "Resumption",
    "Retention",
    "Retry",
    "Run",
    "RunCancelled",
    "RunExport",
    "RunFailed",
    "RunFinishedError",
    "RunInfo",
    "RunNotFoundError",
    "SKIP",
    "SchemaVersionError",
    "StaleResumeError",
    "Start",
    "Step",
    "StepContext",
    "StepFailed",
    "StoreUnavailableError",
    "Suspend",
    "TIMED_OUT",
    "TerminalError",
    "Undo",
    "Wait",
    "Worker",
    "Workflow",
    "WorkflowContext",
    "WorkflowNotRegisteredError",
    "ZlibLayer",
    "current_step",
    "step",
    "workflow",
]
