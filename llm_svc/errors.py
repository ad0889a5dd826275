"""The failures of llm_svc, each declared once."""

from __future__ import annotations

from datetime import timedelta

from grpc import StatusCode as Code

from chassis.errors import ServiceError


class RosterInvalid(ValueError):
    """What the operator configured cannot be used; the text says where and why. Stops the room at its start."""


class UnknownModel(ServiceError):
    """No configured provider has a model of that name."""

    code = Code.INVALID_ARGUMENT
    reason = "UNKNOWN_MODEL"
    message = "No configured provider has a model of that name."


class ModelNotLocal(ServiceError):
    """The request must stay on this machine and the model is elsewhere."""

    code = Code.FAILED_PRECONDITION
    reason = "PLACEMENT_REFUSED"
    message = "This content must stay on this machine and the chosen model is elsewhere."


class ParameterUnsupported(ServiceError):
    """The model cannot do what the request asks, such as reading images."""

    code = Code.INVALID_ARGUMENT
    reason = "PARAMETER_UNSUPPORTED"
    message = "The chosen model cannot do what the request asks."


class ContextTooLong(ServiceError):
    """The window is larger than the model reads."""

    code = Code.INVALID_ARGUMENT
    reason = "CONTEXT_TOO_LONG"
    message = "The conversation is longer than the model can read."


class ModelLoading(ServiceError):
    """The built-in model is still being loaded."""

    code = Code.UNAVAILABLE
    reason = "MODEL_LOADING"
    message = "The model is still loading. Try again in a moment."
    default_retry_after = timedelta(seconds=2)


class EngineBusy(ServiceError):
    """The built-in engine's queue is full."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "ENGINE_BUSY"
    message = "The built-in model is busy with other requests. Try again in a moment."
    default_retry_after = timedelta(seconds=5)


class EngineCrashed(ServiceError):
    """The built-in engine's process ended in the middle of the work; it is being started again."""

    code = Code.UNAVAILABLE
    reason = "ENGINE_CRASHED"
    message = "The built-in model stopped unexpectedly and is being started again."
    default_retry_after = timedelta(seconds=5)


class ProviderFailed(ServiceError):
    """The provider failed, broke off, or cannot be reached."""

    code = Code.UNAVAILABLE
    reason = "PROVIDER_FAILED"
    message = "The model's provider failed or cannot be reached."


class ProviderRefused(ServiceError):
    """The provider refused the request or the key; the operator has to act."""

    code = Code.FAILED_PRECONDITION
    reason = "PROVIDER_REFUSED"
    message = "The model's provider refused the request or its key."


class ProviderLimited(ServiceError):
    """The provider limits our requests."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "PROVIDER_LIMITED"
    message = "The model's provider limits our requests. Try again later."
    default_retry_after = timedelta(seconds=10)


class ProviderTimeout(ServiceError):
    """The provider did not answer, or stopped sending, for too long."""

    code = Code.UNAVAILABLE
    reason = "PROVIDER_TIMEOUT"
    message = "The model's provider did not answer in time."


class ProviderGarbage(ServiceError):
    """The provider answered what cannot be read, or without end."""

    code = Code.UNAVAILABLE
    reason = "PROVIDER_GARBAGE"
    message = "The model's provider answered something that cannot be read."


class CostLimit(ServiceError):
    """The step's worst case costs more than the caller allowed."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "COST_LIMIT"
    message = "This answer could cost more than is left to spend."


class FrameUnexpected(ServiceError):
    """A frame came where the contract has no place for it."""

    code = Code.FAILED_PRECONDITION
    reason = "FRAME_UNEXPECTED"
    message = "The stream holds a frame that does not belong there."
