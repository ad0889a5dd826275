"""Who may call what in this room, and what it does not serve yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from chassis.access import Audience, Policies, Policy

_MEDIA = "/assistant.media.v1.MediaService"
_KNOWLEDGE = "/assistant.knowledge.v1.KnowledgeService"

_READ = timedelta(seconds=5)
_CHUNK = timedelta(seconds=30)
_ANALYSIS = timedelta(seconds=60)
_CONTEXT = frozenset({"context"})
_AGENT = frozenset({"orchestrator"})


def _person(deadline: timedelta | None, *, served: bool = False, scope: str = "media") -> Policy:
    return Policy(audience=Audience.USER, deadline=deadline, served=served, scope=scope)


def _reader(deadline: timedelta | None) -> Policy:
    return _person(deadline, scope="knowledge")


def _agents(policy: Policy) -> Policy:
    """The agent may do it too, for the person of a turn."""
    return replace(policy, callers=_AGENT, grants={"orchestrator": "turn"})


def _context(deadline: timedelta | None, *, after_end: bool = False) -> Policy:
    """For the person of a job of context_svc; `after_end`: also once their account has ended."""
    return Policy(
        audience=Audience.ROOM,
        deadline=deadline,
        callers=_CONTEXT,
        grants={"context": "job"},
        after_end=after_end,
    )


def _backup() -> Policy:
    """Everybody's files at once, for the operator: no grant names that."""
    return Policy(audience=Audience.ROOM, deadline=None, callers=_CONTEXT)


POLICIES: Policies = {
    f"{_MEDIA}/UploadMedia": _agents(_person(None, served=True)),
    f"{_MEDIA}/CreateUpload": _person(_READ, served=True),
    f"{_MEDIA}/WriteUpload": _person(_CHUNK, served=True),
    f"{_MEDIA}/GetUpload": _person(_READ, served=True),
    f"{_MEDIA}/GetMedia": _agents(_person(_READ, served=True)),
    f"{_MEDIA}/ListMedia": _person(_READ, served=True),
    f"{_MEDIA}/DownloadMedia": _agents(_person(None, served=True)),
    f"{_MEDIA}/DeleteMedia": _person(_READ, served=True),
    f"{_MEDIA}/AnalyzeImage": _agents(_person(_ANALYSIS)),
    f"{_MEDIA}/Transcribe": _agents(_person(_ANALYSIS)),
    f"{_MEDIA}/StreamTranscribe": _person(None),
    f"{_MEDIA}/StartTranscription": _person(None),
    f"{_MEDIA}/AppendAudio": _person(_CHUNK),
    f"{_MEDIA}/FinishTranscription": _person(_ANALYSIS),
    f"{_MEDIA}/SynthesizeSpeech": _person(None),
    f"{_MEDIA}/ClaimMedia": _context(_READ),
    f"{_MEDIA}/ReleaseMedia": _context(_READ, after_end=True),
    f"{_MEDIA}/EraseOwner": _context(_CHUNK, after_end=True),
    f"{_MEDIA}/ExportOwner": _context(None),
    f"{_MEDIA}/ImportMedia": _context(None),
    f"{_MEDIA}/WriteBackup": _backup(),
    f"{_MEDIA}/ReadBackup": _backup(),
    f"{_KNOWLEDGE}/IngestDocument": _reader(_READ),
    f"{_KNOWLEDGE}/ListDocuments": _reader(_READ),
    f"{_KNOWLEDGE}/GetDocument": _agents(_reader(_READ)),
    f"{_KNOWLEDGE}/DeleteDocument": _reader(_READ),
    f"{_KNOWLEDGE}/SearchDocuments": _agents(_reader(_READ)),
}
