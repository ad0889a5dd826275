"""AgentService: parse, call, build."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from assistant.agent.v1 import agent_pb2, agent_pb2_grpc
from chassis import call
from chassis.crossing import Context
from context_svc.capabilities import Capabilities
from context_svc.jobs import Jobs
from context_svc.turn_commands import TurnCommands
from context_svc.wire import agent as wire
from context_svc.wire import chat
from context_svc.wire import turn_commands as commands


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """What the agent can do, and what it does in the background."""

    def __init__(self, capabilities: Capabilities[agent_pb2.Action], jobs: Jobs, turns: TurnCommands) -> None:
        self._capabilities = capabilities
        self._jobs = jobs
        self._turns = turns

    def register(self, server: grpc.aio.Server) -> None:
        """Serve it."""
        agent_pb2_grpc.add_AgentServiceServicer_to_server(self, server)

    async def ListCapabilities(
        self, request: agent_pb2.ListCapabilitiesRequest, context: Context
    ) -> agent_pb2.ListCapabilitiesResponse:
        """The actions, with their schemas."""
        page = await self._capabilities.page(
            call.current().user().account, size=request.page_size, token=request.page_token
        )
        return agent_pb2.ListCapabilitiesResponse(actions=page.actions, next_page_token=page.next_page_token)

    async def ExecuteAction(
        self, request: agent_pb2.ExecuteActionRequest, context: Context
    ) -> AsyncIterator[agent_pb2.ExecuteActionResponse]:
        """Run one action."""
        user = call.current().user()
        execution = commands.execution(request, user)
        commands.check(execution, await self._capabilities.named(user.account, request.action))
        async for frame in self._turns.execute(user, execution, follow=request.follow):
            yield chat.frame(frame, agent_pb2.ExecuteActionResponse)

    async def ListJobs(
        self, request: agent_pb2.ListJobsRequest, context: Context
    ) -> agent_pb2.ListJobsResponse:
        """A page of jobs."""
        page = await self._jobs.list_page(
            call.current().user(),
            size=request.page_size,
            token=request.page_token,
            open_only=request.open_only,
        )
        return wire.page(page)

    async def CancelJob(
        self, request: agent_pb2.CancelJobRequest, context: Context
    ) -> agent_pb2.CancelJobResponse:
        """Cancel a job."""
        return agent_pb2.CancelJobResponse(
            job=wire.job(await self._jobs.cancel(call.current().user(), request.job_id))
        )
