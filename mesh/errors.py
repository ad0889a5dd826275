"""What can go wrong for an operator. Each failure says in one sentence what happened and what to do.

MeshError
├── SettingsInvalid      the environment or mesh.toml says something that cannot be used
├── PlaceUnsafe          a folder that must be private is not, or is somebody else's
├── AlreadyRunning       another `mesh up` owns this data folder
├── PortTaken            something else listens on the public port
├── EdgeUnusable         Envoy or its configuration cannot be used
├── ModelUnknown         no model that runs here has this name
├── ModelUnavailable     the weights could not be had, or are not the pinned bytes
├── ModelInUse           the running mesh answers with the model that was to go
├── ReferenceUnavailable  the books of the offline reference could not be made
├── NotEnoughRoom        disk or memory is too small for what was asked
├── RoomFailed           a room never became ready
├── NotRunning           a command needs a running mesh and there is none
├── CallFailed           a call to the mesh failed
├── SignInNeeded         this terminal has no sign-in
├── UserUnknown          no account has this id or address
├── SecretUnfit          a secret has no usable name or value, or there is none of that name
└── ValueUnusable        a word on the command line cannot be used
"""


class MeshError(Exception):
    """A failure with words for a person: `what` happened and the `cure`."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what} {cure}")
        self.what = what
        self.cure = cure


class SettingsInvalid(MeshError):
    """The environment or mesh.toml says something that cannot be used."""


class PlaceUnsafe(MeshError):
    """A folder that must be private is not, or belongs to somebody else."""


class AlreadyRunning(MeshError):
    """Another `mesh up` owns this data folder."""


class PortTaken(MeshError):
    """Something else listens on the public port."""


class EdgeUnusable(MeshError):
    """Envoy, or the configuration made for it, cannot be used."""


class ModelUnknown(MeshError):
    """No model that runs on this machine has this name, or it cannot be the name of one."""


class ModelUnavailable(MeshError):
    """The weights could not be had, or what was had are not the pinned bytes."""


class ModelInUse(MeshError):
    """The running mesh answers with the model that was to go."""


class ReferenceUnavailable(MeshError):
    """The books of the offline reference could not be made."""


class NotEnoughRoom(MeshError):
    """Disk or memory is too small for what was asked."""


class RoomFailed(MeshError):
    """A room never became ready."""


class NotRunning(MeshError):
    """A command needs a running mesh and there is none."""


class CallFailed(MeshError):
    """A call to the mesh failed. `reason` is the catalogue's, or None when the transport broke."""

    def __init__(self, what: str, cure: str, *, reason: str | None, passing: bool) -> None:
        super().__init__(what, cure)
        self.reason = reason
        self.passing = passing


class SignInNeeded(MeshError):
    """This terminal has no sign-in and cannot make one by itself."""


class UserUnknown(MeshError):
    """No account has this id or address."""


class ArchiveUnusable(MeshError):
    """The archive of an account cannot be written, read or taken."""


class SecretUnfit(MeshError):
    """A secret's name or value cannot be kept, or there is no such secret."""


class NothingSaid(MeshError):
    """A command is about the last message or turn of this terminal, and there is none."""

    def __init__(self) -> None:
        super().__init__("Nothing was said here yet.", "Write a message first.")


class ValueUnusable(MeshError):
    """A word on the command line cannot be used."""
