"""Server reflection (v1, and v1alpha for older tools) over a given descriptor set."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

V1 = "grpc.reflection.v1.ServerReflection"


def register(server: grpc.aio.Server, descriptors: bytes) -> None:
    """Serve reflection for every service of a serialised FileDescriptorSet that holds all its imports."""
    files = FileDescriptorSet.FromString(descriptors)
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    servicer = aio.ReflectionServicer((*_names(files), V1, reflection.SERVICE_NAME), pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, reflection.SERVICE_NAME):  # the two versions have the same bytes
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}),)
        )


def _names(files: FileDescriptorSet) -> Sequence[str]:
    return [f"{file.package}.{service.name}" for file in files.file for service in file.service]
