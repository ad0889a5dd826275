"""GenerationService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from assistant.generation.v1 import generation_pb2 as pb
from assistant.generation.v1 import generation_pb2_grpc as rpc
from chassis import call
from llm_svc import leave, wire
from llm_svc.batches import Batches
from llm_svc.catalogue import Catalogue
from llm_svc.steps import Runs

SERVICE = pb.DESCRIPTOR.services_by_name["GenerationService"].full_name


class GenerationServicer(rpc.GenerationServiceServicer):
    """The room's one service."""

    def __init__(self, runs: Runs, catalogue: Catalogue) -> None:
        self._runs = runs
        self._batches = Batches(runs)
        self._catalogue = catalogue

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateRequest], context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        """The model steps of one turn."""
        frames = (wire.frame(message) async for message in request_iterator)
        allowed = leave.checked(frames, call.current().caller)
        async with aclosing(self._runs.serve(allowed)) as events:
            async for event in events:
                yield wire.response(event)

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: object
    ) -> pb.BatchGenerateResponse:
        """Several one-step requests."""
        starts = [wire.start(each) for each in request.requests]
        return wire.batch(await self._batches.run(leave.all_checked(starts, call.current().caller)))

    async def CountTokens(self, request: pb.CountTokensRequest, context: object) -> pb.CountTokensResponse:
        """The tokens of a window."""
        return wire.counted(await self._runs.count(wire.count_request(request)))

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
