"""The room put together: the only module that names concrete adapters."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import assert_never

from chassis import certificates
from chassis.auth import Authenticator, RoomIdentity, grant_verifier, room_issuer
from chassis.boundary import Boundary
from chassis.clock import Clock, SystemClock
from chassis.crossing import Authenticates
from chassis.dial import open_channel
from chassis.health import Health
from chassis.keys import KeySet, load_or_create_key
from chassis.serve import INTERNAL_MESSAGE, Server, serving
from chassis.settings import environment
from chassis.tasks import Tasks
from chassis.tokens import ROOM_TOKEN, USER_TOKEN, Signer, Verifier
from chassis.trust import Trust, follow
from llm_svc import roster
from llm_svc.access import POLICIES
from llm_svc.attempts import Attempts
from llm_svc.catalogue import Catalogue
from llm_svc.engine.assembly import built_in
from llm_svc.engine.options import Options
from llm_svc.engine.process import Phase
from llm_svc.errors import RosterInvalid
from llm_svc.forgetting import Forgetting
from llm_svc.peers import RevocationFeed
from llm_svc.profiles import built_in_model
from llm_svc.providers import script
from llm_svc.providers.anthropic import Anthropic
from llm_svc.providers.builtin import Builtin
from llm_svc.providers.chat_body import COMPATIBLE, OFFICIAL
from llm_svc.providers.cohere import Cohere
from llm_svc.providers.long_tail import LongTail
from llm_svc.providers.openai import OpenAI
from llm_svc.providers.provider import Provider
from llm_svc.providers.scripted import Scripted
from llm_svc.response_cache import Forgetful, ResponseCache
from llm_svc.roster import Wire
from llm_svc.servers import Configured, configured
from llm_svc.servicer import SERVICE, GenerationServicer
from llm_svc.settings import Settings
from llm_svc.steps import Runs

ROOM = "llm"
DOMAIN = "assistant.mesh"
USERS_ISSUER = "assistant.mesh"
USERS_AUDIENCE = "mesh"
PROVIDER = "provider"  # provider/<name> serves while that provider is asked
ENGINE = "engine"  # the health name that serves once the built-in model is loaded and warm


@asynccontextmanager
async def app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    authenticator: Authenticates | None = None,
) -> AsyncIterator[Server]:
    """The room on its socket. Opened in order, closed in reverse; the engine loads in the background."""
    clock = clock or SystemClock()
    health = Health((SERVICE, ENGINE))
    async with AsyncExitStack() as stack:
        providers = await _providers(settings, clock, health, stack)
        attempts = Attempts(clock, lambda name, asked: health.set(f"{PROVIDER}/{name}", asked))
        catalogue = await _catalogue(settings, providers, attempts)
        stack.push_async_callback(catalogue.close)
        for provider in providers:
            health.set(f"{PROVIDER}/{provider.name}", True)
        cache = ResponseCache(clock, max_bytes=settings.response_cache_mib << 20)
        engines = [provider.forget for provider in providers if isinstance(provider, Builtin)]
        forgetting = Forgetting(cache.forget, engines)
        tasks = await stack.enter_async_context(Tasks())
        tasks.spawn("forget ended accounts", forgetting.run())
        servicer = GenerationServicer(Runs(catalogue, clock, attempts=attempts, cache=cache), catalogue)
        boundary = Boundary(
            policies=POLICIES,
            authenticator=authenticator or await _authenticator(settings, clock, forgetting, stack),
            domain=DOMAIN,
            clock=clock,
        )
        running = serving(
            addresses=[settings.listen],
            services=[servicer.register],
            service_names=[SERVICE],
            boundary=boundary,
            health=health,
            max_message=INTERNAL_MESSAGE,
            certificates=certificates.read(settings.tls_dir, ROOM),
        )
        yield await stack.enter_async_context(running)


async def _catalogue(settings: Settings, providers: Sequence[Provider], attempts: Attempts) -> Catalogue:
    """The models of the providers. Raises RosterInvalid for a fallback that none of them has."""
    default = settings.default_model or (settings.model_name if settings.model_file else "")
    catalogue = Catalogue(
        providers,
        default=default,
        fallbacks=roster.names(settings.fallback_models),
        is_failing=attempts.is_failing,
    )
    if unknown := await catalogue.unknown_fallbacks():
        raise RosterInvalid(f"LLM_FALLBACK_MODELS names {list(unknown)}, which no provider has")
    return catalogue


async def _providers(
    settings: Settings, clock: Clock, health: Health, stack: AsyncExitStack
) -> Sequence[Provider]:
    providers: list[Provider] = []
    if settings.model_file is not None:
        providers.append(await _built_in(settings, settings.model_file, clock, health, stack))
    if settings.script:
        path = script.DEFAULT_SCRIPT if settings.script.lower() == "true" else Path(settings.script)
        providers.append(Scripted(script.load(path), clock))
    servers = configured(settings, roster.read(settings.data_dir), environment())
    return [*providers, *map(_remote, servers)]


async def _built_in(
    settings: Settings, weights: Path, clock: Clock, health: Health, stack: AsyncExitStack
) -> Provider:
    model = built_in_model(settings.model_name)
    options = Options(
        model=str(weights),
        socket=str(_engine_socket(settings, stack)),
        state_dir=str(settings.data_dir / "engine"),
        context_tokens=model.context_tokens * settings.engine_parallel,
        parallel=settings.engine_parallel,
        threads=settings.engine_threads or os.cpu_count() or 1,
        prompt_cache_mib=settings.engine_prompt_cache_mib,
    )
    opening = built_in(
        model,
        options,
        sha256=settings.model_sha256,
        queue=settings.engine_queue,
        clock=clock,
        on_phase=lambda phase: health.set(ENGINE, phase is Phase.READY),
    )
    provider, _ = await stack.enter_async_context(opening)
    return provider


def _engine_socket(settings: Settings, stack: AsyncExitStack) -> Path:
    """Beside the room's own socket, whose folder is private; else in a private folder with a short path."""
    kind, _, path = settings.listen.partition(":")
    if kind == "unix":
        return Path(path).with_name("engine.sock")
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engine-"))) / "engine.sock"


def _remote(each: Configured) -> Provider:
    match each.wire:
        case Wire.ANTHROPIC:
            return Anthropic(each.server)
        case Wire.COHERE:
            return Cohere(each.server)
        case Wire.OPENAI:
            return OpenAI(each.server, OFFICIAL if each.official else COMPATIBLE)
        case Wire.PYDANTIC_AI:
            return LongTail(each.server)
        case _:
            assert_never(each.wire)


async def _authenticator(
    settings: Settings, clock: Clock, forgetting: Forgetting, stack: AsyncExitStack
) -> Authenticator:
    """Checks tokens of people by the feed's keys, of rooms by the operator's list of theirs.

    What is kept of an account goes when the feed names it.
    """
    people, grants, revocations = KeySet(), KeySet(), Forgetful(clock, forgetting.ended)
    await _follow_feed(settings, clock, Trust(people, revocations, clock, grants=grants), stack)
    jwks = json.loads((settings.keys_dir / "rooms.jwks").read_text())["keys"]
    return Authenticator(
        Verifier(people, USERS_ISSUER, USERS_AUDIENCE, USER_TOKEN, clock),
        Verifier(KeySet(jwks), None, ROOM, ROOM_TOKEN, clock, session=False),
        revocations,
        clock,
        grants=grant_verifier(grants, USERS_ISSUER, ROOM, clock),
    )


async def _follow_feed(settings: Settings, clock: Clock, trust: Trust, stack: AsyncExitStack) -> None:
    issuer = room_issuer(ROOM)
    key = load_or_create_key(settings.keys_dir / f"{ROOM}.key")
    identity = RoomIdentity(ROOM, Signer(key, issuer, issuer), clock)
    channel = open_channel(
        settings.context,
        identity=identity,
        callee="context",
        certificates=certificates.read(settings.tls_dir, ROOM),
    )
    await stack.enter_async_context(channel)
    tasks = await stack.enter_async_context(Tasks())
    feed = RevocationFeed(channel)
    tasks.spawn("follow the revocation feed", follow(feed.open, trust, clock, lambda _heard: None))
