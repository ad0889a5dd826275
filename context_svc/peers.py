"""The rooms that context_svc dials. The only module here that does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc

from assistant.agent.v1 import agent_pb2
from assistant.chat.v1 import chat_pb2
from assistant.turn.v1 import turn_pb2, turn_pb2_grpc
from chassis.dial import streaming
from chassis.tasks import Tasks
from context_svc.errors import PeerUnavailable
from context_svc.grants import Grants, Work
from context_svc.run_frames import Frame
from context_svc.runs import Material
from context_svc.wire import turn as wire
from context_svc.wire.turn import Budget

CONNECT = 10.0  # seconds: long enough for a room that is being restarted
LIST_TIMEOUT = 5.0  # seconds
CHECK_TIMEOUT = 2.0  # seconds


class OrchestratorPeer:
    """orchestrator_svc, where turns run."""

    def __init__(self, channel: grpc.aio.Channel, budget: Budget, grants: Grants) -> None:
        self._stub = turn_pb2_grpc.TurnServiceStub(channel)
        self._budget = budget
        self._grants = grants

    @asynccontextmanager
    async def run(self, material: Material) -> AsyncIterator[OrchestratorTurn]:
        """Open a turn. Raises PeerUnavailable when the room cannot be reached."""
        request = wire.start(material, self._budget, self._leave(material))
        async with streaming(self._stub.RunTurn(wait_for_ready=True)) as stream:
            try:
                async with asyncio.timeout(CONNECT):
                    await stream.write(request)
                    await stream.wait_for_connection()
            except TimeoutError as error:
                raise PeerUnavailable("orchestrator_svc does not answer") from error
            except grpc.aio.AioRpcError as error:
                raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
            except asyncio.InvalidStateError as error:
                raise PeerUnavailable("orchestrator_svc refused the turn") from error
            turn = OrchestratorTurn(stream, wire.context_keys(request))
            async with Tasks() as tasks:
                tasks.spawn("renew grants", self._renew(turn, material))
                yield turn

    async def _renew(self, turn: OrchestratorTurn, material: Material) -> None:
        while True:
            await self._grants.due()
            await turn.send(turn_pb2.RunTurnRequest(grants=self._leave(material)))

    def _leave(self, material: Material) -> turn_pb2.Grants:
        claim = material.claim

        def grant(callee: str) -> str:
            return self._grants.issue(
                account=claim.account_id,
                work=Work.TURN,
                id=claim.turn_id,
                callee=callee,
                session=claim.session_id,
            )

        return turn_pb2.Grants(llm=grant("llm"), media=grant("media"))

    async def actions(self, account_id: str) -> list[agent_pb2.Action]:
        """Everything that turns of this account can use, by name. Raises PeerUnavailable."""
        try:
            answer = await self._stub.ListActions(
                turn_pb2.ListActionsRequest(account_id=account_id), timeout=LIST_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
        return sorted(answer.actions, key=lambda action: action.name)

    async def knows(self, model: str) -> bool:
        """Whether the model can answer. Raises PeerUnavailable."""
        request = turn_pb2.CheckModelsRequest(models=[model])
        try:
            answer = await self._stub.CheckModels(request, timeout=CHECK_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error
        return not answer.unknown


class OrchestratorTurn:
    """One turn that runs there."""

    def __init__(
        self,
        stream: grpc.aio.StreamStreamCall[turn_pb2.RunTurnRequest, turn_pb2.RunTurnResponse],
        context_keys: tuple[str, ...],
    ) -> None:
        self._stream = stream
        self._writing = asyncio.Lock()  # grpc.aio takes one write at a time
        self.context_keys = context_keys

    async def frames(self) -> AsyncIterator[Frame]:
        """What the turn makes. Raises PeerUnavailable when the room breaks off."""
        try:
            async for response in self._stream:
                for frame in wire.frames(response):
                    yield frame
        except grpc.aio.AioRpcError as error:
            raise PeerUnavailable(f"orchestrator_svc: {error.code().name}") from error

    async def cancel(self) -> None:
        """Ask the turn to stop."""
        await self.send(turn_pb2.RunTurnRequest(cancel=turn_pb2.CancelTurn()))

    async def effect_recorded(self, call_id: str) -> None:
        """Let an action with effects run."""
        recorded = turn_pb2.EffectRecorded(call_id=call_id)
        await self.send(turn_pb2.RunTurnRequest(effect_recorded=recorded))

    async def host_result(self, finished: bytes) -> None:
        """Tell how an action of this room ended."""
        result = turn_pb2.HostResult(finished=chat_pb2.ToolFinished.FromString(finished))
        await self.send(turn_pb2.RunTurnRequest(host_result=result))

    async def send(self, frame: turn_pb2.RunTurnRequest) -> None:
        """Tell the turn something; without effect on one that is over."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._stream.write(frame)
