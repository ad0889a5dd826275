"""GenerationService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from chassis.errors import NotServed
from llm_svc import wire
from llm_svc.catalogue import Catalogue
from llm_svc.events import Event
from llm_svc.steps import Runs

SERVICE = pb.DESCRIPTOR.services_by_name["GenerationService"].full_name

Context = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]


class GenerationServicer(rpc.GenerationServiceServicer):
    """The room's one service."""

    def __init__(self, runs: Runs, catalogue: Catalogue) -> None:
        self._runs = runs
        self._catalogue = catalogue

    async def Generate(  # type: ignore[override]  # grpc.aio lets a handler write; the stub knows iterators only
        self, request_iterator: AsyncIterator[pb.GenerateRequest], context: Context
    ) -> None:
        """The model steps of one turn."""

        async def send(event: Event) -> None:
            await context.write(wire.response(event))

        await self._runs.serve((wire.frame(message) async for message in request_iterator), send)

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: object
    ) -> pb.BatchGenerateResponse:
        """Not served yet; the boundary refuses it before this is reached."""
        raise NotServed

    async def CountTokens(self, request: pb.CountTokensRequest, context: object) -> pb.CountTokensResponse:
        """The tokens of a window."""
        choice = await self._catalogue.resolve(request.model)
        return wire.counted(await choice.provider.count(wire.count_request(request)))

    async def ListModels(self, request: pb.ListModelsRequest, context: object) -> pb.ListModelsResponse:
        """The models, the default one first."""
        models = await self._catalogue.models()
        return wire.models(models, request, default=await self._catalogue.default())

    async def GetModel(self, request: pb.GetModelRequest, context: object) -> pb.GetModelResponse:
        """One model."""
        choice = await self._catalogue.resolve(request.model)
        return pb.GetModelResponse(model=wire.model(choice.model, default=await self._catalogue.default()))

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        rpc.add_GenerationServiceServicer_to_server(self, server)
