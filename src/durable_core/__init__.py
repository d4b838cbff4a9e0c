"""Durable execution: workflows that survive crashes."""

from .codec.layers import ZlibLayer
from .codec.payload import Codec, JsonCodec
from .engine.clock import Host
from .engine.engine import Engine, Worker
from .engine.exporting import RunExport
from .engine.info import JournalEntry, RunInfo, Wait
from .engine.observer import Observer
from .engine.retention import Retention
from .engine.run import Run
from .engine.starting import Start
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
from .workflow import SKIP, Branch, Resumption, StepContext, Suspend, Undo, Workflow

__all__ = [
    "Branch",
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
    "StepContext",
    "StepFailed",
    "StoreUnavailableError",
    "Suspend",
    "TerminalError",
    "Undo",
    "Wait",
    "Worker",
    "Workflow",
    "WorkflowNotRegisteredError",
    "ZlibLayer",
]
