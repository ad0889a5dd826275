"""Turns without a person who waits: what the model is asked to do with a conversation, as the newest message."""

from __future__ import annotations

from dataclasses import replace

from orchestrator_svc.conversation import Message, Part, Role, Text, Trust, said
from orchestrator_svc.material import Material, Purpose
from orchestrator_svc.prompt import request_text
from orchestrator_svc.window import demanded

_PERSONS_WORDS = 8_000  # characters, the newest, that memories are made from
_EXCERPT = 2_000  # characters of each side that a title is made from


def asked(material: Material, purpose: Purpose) -> Material:
    """The material with the request of a background purpose at its end; that of other purposes unchanged."""
    request = request_text(purpose)
    if not request:
        return material
    if purpose is Purpose.TITLE:
        return replace(material, messages=(_beginning(material, request),))
    if purpose is Purpose.MEMORY:
        return replace(material, messages=(_persons_words(material, request),))
    closing = Message(role=Role.USER, parts=(said(request),), placement=material.placement)
    return replace(material, messages=(*material.messages, closing))


def _beginning(material: Material, request: str) -> Message:
    """One message: how the conversation begins is enough, and no model mistakes it for its own turn."""
    person = _words(material, Role.USER)
    answer = _words(material, Role.ASSISTANT)
    parts: tuple[Part, ...] = (said(f"{request}\n{person}"),)
    if answer:
        parts += (said(f"The answer began:\n{answer}", Trust.UNTRUSTED),)
    return Message(role=Role.USER, parts=parts, placement=material.placement)


def _persons_words(material: Material, request: str) -> Message:
    """One message: what the person said, and nothing that anybody else did."""
    texts = [
        part.content.text
        for message in material.messages
        if message.role is Role.USER
        for part in message.parts
        if isinstance(part.content, Text) and part.trust is Trust.PERSON
    ]
    said_ = "\n".join(texts)[-_PERSONS_WORDS:]
    return Message(
        role=Role.USER, parts=(said(f"What I said:\n{said_}\n\n{request}"),), placement=demanded(material)
    )


def _words(material: Material, role: Role) -> str:
    pieces = (
        part.content.text
        for message in material.messages
        if message.role is role
        for part in message.parts
        if isinstance(part.content, Text)
    )
    return next(pieces, "")[:_EXCERPT]
