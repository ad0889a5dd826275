"""Who may call what in this room, and what it does not serve yet."""

from __future__ import annotations

from datetime import timedelta

from chassis.access import Audience, Policies, Policy

_MEDIA = "/assistant.media.v1.MediaService"
_KNOWLEDGE = "/assistant.knowledge.v1.KnowledgeService"

_READ = timedelta(seconds=5)
_CHUNK = timedelta(seconds=30)
_ANALYSIS = timedelta(seconds=60)
_CONTEXT = frozenset({"context"})


def _person(deadline: timedelta | None, *, served: bool = False, scope: str = "media") -> Policy:
    return Policy(audience=Audience.USER, deadline=deadline, served=served, scope=scope)


def _reader(deadline: timedelta | None) -> Policy:
    return _person(deadline, scope="knowledge")


def _context(deadline: timedelta | None, *, served: bool = False) -> Policy:
    return Policy(audience=Audience.ROOM, deadline=deadline, callers=_CONTEXT, served=served)


POLICIES: Policies = {
    f"{_MEDIA}/UploadMedia": _person(None, served=True),
    f"{_MEDIA}/CreateUpload": _person(_READ, served=True),
    f"{_MEDIA}/WriteUpload": _person(_CHUNK, served=True),
    f"{_MEDIA}/GetUpload": _person(_READ, served=True),
    f"{_MEDIA}/GetMedia": _person(_READ, served=True),
    f"{_MEDIA}/ListMedia": _person(_READ, served=True),
    f"{_MEDIA}/DownloadMedia": _person(None, served=True),
    f"{_MEDIA}/DeleteMedia": _person(_READ, served=True),
    f"{_MEDIA}/AnalyzeImage": _person(_ANALYSIS),
    f"{_MEDIA}/Transcribe": _person(_ANALYSIS),
    f"{_MEDIA}/StreamTranscribe": _person(None),
    f"{_MEDIA}/StartTranscription": _person(None),
    f"{_MEDIA}/AppendAudio": _person(_CHUNK),
    f"{_MEDIA}/FinishTranscription": _person(_ANALYSIS),
    f"{_MEDIA}/SynthesizeSpeech": _person(None),
    f"{_MEDIA}/ClaimMedia": _context(_READ),
    f"{_MEDIA}/ReleaseMedia": _context(_READ),
    f"{_MEDIA}/EraseOwner": _context(_CHUNK),
    f"{_MEDIA}/ExportOwner": _context(None),
    f"{_MEDIA}/WriteBackup": _context(None, served=True),
    f"{_MEDIA}/ReadBackup": _context(None, served=True),
    f"{_KNOWLEDGE}/IngestDocument": _reader(_READ),
    f"{_KNOWLEDGE}/ListDocuments": _reader(_READ),
    f"{_KNOWLEDGE}/GetDocument": _reader(_READ),
    f"{_KNOWLEDGE}/DeleteDocument": _reader(_READ),
    f"{_KNOWLEDGE}/SearchDocuments": _reader(_READ),
}
