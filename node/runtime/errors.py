"""What can go wrong between the node and its container engine.

EngineError                what, what it means, what to do; never raised itself
├─ EngineUnavailable       the engine doesn't answer: nothing is known, nothing may be concluded
├─ ImageUnavailable        the renter's side: not found, denied, invalid, too large, wrong platform
├─ PullFailed              the node's side: registry unreachable, timeout, broken download
├─ CapabilityMissing       this machine can't give what was asked for (egress, disk size)
├─ StartFailed             the node's side: sandbox, network, scratch or engine refused
├─ EngineRefused           the engine answered something no caller foresaw: its own words
├─ AttemptConflict         the attempt already has a container that was built from another specification
└─ ContainerVanished       the attempt has no container (any more): no exit code will ever be known

A command that can't be executed is no error of the engine: it is an outcome with exit code 126 or 127.
"""

from enum import StrEnum


class EngineError(Exception):
    """The container engine could not do what the node asked for."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class EngineUnavailable(EngineError):
    """The container engine does not answer."""


class ImageFault(StrEnum):
    """Why an image is the renter's problem (reason 7, `image_unavailable`)."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    DENIED = "denied"
    TOO_LARGE = "too_large"
    WRONG_PLATFORM = "wrong_platform"


class ImageUnavailable(EngineError):
    """The image can't be had by anybody as it was asked for: the renter's side."""

    def __init__(self, fault: ImageFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class PullFailed(EngineError):
    """This node could not fetch an image that others may get: the node's side."""


class CapabilityMissing(EngineError):
    """This machine can't give what the container asks for; ask `capabilities()` before claiming."""


class StartFailed(EngineError):
    """The sandbox, its network or its disk could not be set up: the node's side."""


class EngineRefused(EngineError):
    """The engine refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AttemptConflict(EngineError):
    """A container of this attempt exists and was built from another specification; it is left alone."""


class ContainerVanished(EngineError):
    """The attempt has no container: it was never started, or was removed behind the node's back."""
