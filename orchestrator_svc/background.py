"""Turns without a person who waits: what the model is asked to do with a conversation, as the newest message."""

from __future__ import annotations

from dataclasses import replace

from orchestrator_svc.conversation import Message, Part, Role, Text, Trust, said
from orchestrator_svc.material import Material, Purpose
from orchestrator_svc.prompt import request_text

_EXCERPT = 2_000  # characters of each side that a title is made from


def asked(material: Material, purpose: Purpose) -> Material:
    """The material with the request of a background purpose at its end; that of other purposes unchanged."""
    request = request_text(purpose)
    if not request:
        return material
    if purpose is Purpose.TITLE:
        return replace(material, messages=(_beginning(material, request),))
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


def _words(material: Material, role: Role) -> str:
    pieces = (
        part.content.text
        for message in material.messages
        if message.role is role
        for part in message.parts
        if isinstance(part.content, Text)
    )
    return next(pieces, "")[:_EXCERPT]
