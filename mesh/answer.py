"""What happens in a turn, as the terminal needs it: one frozen class for each kind of event it shows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The message is durable and will be answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """A model began to answer."""

    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """The answer grew by `text`."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolBegan:
    """An action began. `arguments` is JSON."""

    call_id: str
    action: str
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolEnded:
    """An action ended; `failure` is empty when it did what was asked."""

    call_id: str
    action: str
    result: str
    failure: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalAsked:
    """An action waits for consent to exactly these arguments."""

    approval_id: str
    action: str
    arguments: str
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The agent asks a question. `form` is the JSON schema of the answer."""

    input_id: str
    question: str
    form: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The whole answer: the last event."""

    text: str
    model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The turn failed: the last event. What was said before is kept in the session."""

    reason: str
    message: str
    retryable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancelled:
    """The person stopped the turn: the last event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reminded:
    """A reminder's time has come; `late`: it should have been earlier."""

    text: str
    late: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded:
    """Work in the background ended, told in a sentence."""

    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReminderLine:
    """A reminder as a list shows it."""

    id: str
    text: str
    due: str
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    """Something this terminal has nothing to show for."""


Body = (
    Accepted
    | Began
    | Said
    | ToolBegan
    | ToolEnded
    | ApprovalAsked
    | Asked
    | Finished
    | Failed
    | Cancelled
    | Reminded
    | JobEnded
    | Other
)
Last = Finished | Failed | Cancelled


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One event of a session's log. `document` is its ProtoJSON on one line, when that was asked for."""

    sequence: int
    turn: str
    body: Body
    document: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A message on its way in. `id` is a UUID: with it the message is accepted once, however often it is
    sent.
    """

    id: str
    session: str
    text: str
    model: str | None = None
    instead_of: str = ""
    """The message that it says differently, if it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Again:
    """A wish for another answer to the message of a turn. `id` is a UUID: with it one new turn is made."""

    id: str
    session: str
    turn: str
    model: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionLine:
    """A session as a list shows it."""

    id: str
    title: str
    updated: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLine:
    """A model as a list shows it."""

    name: str
    title: str
    provider: str
    local: bool
    default: bool
    context: int
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What a turn used. `lines` are pairs of a name and what there is to say of it."""

    lines: tuple[tuple[str, str], ...]
