"""TurnService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from assistant.turn.v1 import turn_pb2 as pb
from assistant.turn.v1 import turn_pb2_grpc as rpc
from orchestrator_svc.catalogue import Catalogue
from orchestrator_svc.generation import Models
from orchestrator_svc.turns import Turns
from orchestrator_svc.wire import frames, orders

SERVICE = pb.DESCRIPTOR.services_by_name["TurnService"].full_name


class TurnServicer(rpc.TurnServiceServicer):
    """The room's one service."""

    def __init__(self, turns: Turns, catalogue: Catalogue, models: Models) -> None:
        self._turns = turns
        self._catalogue = catalogue
        self._models = models

    async def RunTurn(
        self, request_iterator: AsyncIterator[pb.RunTurnRequest], context: object
    ) -> AsyncIterator[pb.RunTurnResponse]:
        """One run of one turn."""
        async for turn_id, frame in self._turns.run(orders.frame(each) async for each in request_iterator):
            yield frames.response(frame, turn_id)

    async def ListActions(self, request: pb.ListActionsRequest, context: object) -> pb.ListActionsResponse:
        """The actions that turns can use."""
        return pb.ListActionsResponse(actions=map(frames.action, self._catalogue.now()))

    async def CheckModels(self, request: pb.CheckModelsRequest, context: object) -> pb.CheckModelsResponse:
        """Which of some models the catalogue does not have."""
        known = {model.name for model in await self._models.catalogue(request.models)}
        return pb.CheckModelsResponse(unknown=[name for name in request.models if name not in known])

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        rpc.add_TurnServiceServicer_to_server(self, server)
