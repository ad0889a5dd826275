"""AgentService: parse, call, build."""

from __future__ import annotations

import grpc

from assistant.agent.v1 import agent_pb2, agent_pb2_grpc
from chassis import call
from chassis.crossing import Context
from context_svc.capabilities import Capabilities


class AgentServicer(agent_pb2_grpc.AgentServiceServicer):
    """What the agent can do."""

    def __init__(self, capabilities: Capabilities[agent_pb2.Action]) -> None:
        self._capabilities = capabilities

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
