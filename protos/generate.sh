#!/usr/bin/env bash
# Makes generated/ from protos/: Python messages and stubs with their types, and the descriptor set that
# Envoy's transcoder, server reflection and `grpcurl -protoset` read. Usage: protos/generate.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python}
bin=$(dirname "$(command -v "$python")")
out=${GENERATED_DIR:-generated}
mkdir -p "$out"
find "$out" -mindepth 1 -delete
mapfile -t ours < <(find protos/assistant -name '*.proto' | LC_ALL=C sort)
PATH="$bin:$PATH" "$python" -m grpc_tools.protoc -Iprotos -Iprotos/vendor \
  --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=readable_stubs:"$out" --mypy_grpc_out=generate_concrete_servicer_stubs,only_async:"$out" \
  "${ours[@]}"
# The details of errors travel as Any: JSON needs their types in the set too.
"$python" -m grpc_tools.protoc -Iprotos -Iprotos/vendor \
  --include_imports --descriptor_set_out="$out/descriptors.binpb" \
  "${ours[@]}" google/rpc/error_details.proto  # by its own name, which imports use
"$python" -m grpc_tools.protoc -Iprotos/vendor --python_out="$out" --pyi_out="$out" buf/validate/validate.proto
# Files without a service get an empty _pb2_grpc module: not needed.
find "$out" -name '*_pb2_grpc.py' -print0 | while IFS= read -r -d '' stub; do
  grep -q 'class .*Servicer' "$stub" || rm "$stub" "${stub%.py}.pyi" 2>/dev/null || true
done
find "$out" -type d -not -path "$out" -exec touch {}/__init__.py \;
