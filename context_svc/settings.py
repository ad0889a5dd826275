"""What can be set from outside: the environment with the prefix ``CONTEXT_``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Settings
from chassis.telemetry import Format


class ContextSettings(Settings):
    """The settings of context_svc."""

    model_config = SettingsConfigDict(env_prefix="CONTEXT_")

    listen: str = Field(description="Address of the room's services: `unix:/path` or `host:port`.")
    operator_listen: str = Field(
        description="Address of OperatorService: `unix:/path`, mode 0600. Who may open it is the operator."
    )
    orchestrator: str = Field(description="Address of orchestrator_svc.")
    media: str = Field(description="Address of media_svc.")
    data_dir: Path = Field(description="Folder of the database, made with mode 0700 when missing.")
    keys_dir: Path = Field(
        description="Folder of the keys: this room's, those that sign people's tokens, the rooms it trusts."
    )
    tls_dir: Path | None = Field(
        default=None,
        description="Folder of the certificates between rooms (ca.pem, NAME.pem, NAME.key; `mesh up` makes them);"
        " needed to serve or to dial at `host:port`.",
    )
    database: str = Field(
        default="",
        description="Database URL, `sqlite:///path` or `postgresql://…`; empty: `context.db` in DATA_DIR.",
    )
    database_schema: str = Field(default="context", description="Schema of the tables on PostgreSQL.")
    backup_dir: Path | None = Field(
        default=None,
        description="Folder of the backups, outside DATA_DIR; empty: DATA_DIR's name with `-backups`, beside it.",
    )
    server_name: str = Field(default="Assistant", description="Name of this mesh, as clients show it.")
    open_registration: bool = Field(
        default=False, description="Whether anybody may register, once there is a first account."
    )
    hashing_threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Passwords that are hashed at once; each takes 19 MiB and about 50 ms.",
    )
    hashing_memory_kib: int = Field(
        default=19 * 1024,
        ge=8,
        le=4 * 1024 * 1024,
        description="Memory of one password hash, in KiB. Raised: each password is hashed anew at its next login.",
    )
    hashing_passes: int = Field(
        default=2, ge=1, le=64, description="Passes over that memory; raising it works the same way."
    )
    login_failures: int = Field(
        default=10,
        ge=1,
        le=1_000,
        description="Wrong passwords in 15 minutes, for one account from one network; then it has to wait.",
    )
    registrations_per_hour: int = Field(
        default=5, ge=1, le=10_000, description="New accounts in an hour from one network."
    )
    exports_per_hour: int = Field(
        default=1, ge=1, le=1_000, description="Exports of one account that begin within an hour."
    )
    import_limit: int = Field(
        default=4 * 1024**3, ge=1, description="Largest archive that an account may import, in bytes."
    )
    running_turns_per_account: int = Field(
        default=4, ge=1, le=10_000, description="Turns of one account that run at once; others wait in order."
    )
    streams_per_account: int = Field(
        default=64, ge=1, le=10_000, description="Reading streams that one account holds open at most."
    )
    turn_steps: int = Field(default=8, ge=1, le=64, description="Model steps of one turn.")
    turn_calls: int = Field(default=16, ge=0, le=256, description="Action calls of one turn.")
    turn_tool_seconds: float = Field(default=60, gt=0, description="Seconds for all actions of one turn.")
    turn_tokens: int = Field(default=200_000, ge=1, description="Tokens of one turn, read and written.")
    turn_seconds: float = Field(
        default=900, gt=0, description="Seconds of one turn, waiting for the person not counted."
    )
    drain_seconds: float = Field(
        default=18, ge=0, le=600, description="Seconds that running turns have when the room is told to stop."
    )
    linger_seconds: float = Field(
        default=0,
        ge=0,
        le=15,
        description="Seconds for which a room that was told to stop still serves: until a balancer that asks for its"
        " health sends nobody any more. 5 behind the Envoy of this repository, when there are replicas.",
    )
    daily_cost_micro_usd: int = Field(
        default=5_000_000,
        ge=0,
        description="Money that one account may spend in a day (UTC), in millionths of a dollar; 0: no limit.",
    )
    turn_cost_micro_usd: int = Field(
        default=500_000, ge=0, description="Money that one turn may cost, in the same unit; 0: no limit."
    )
    with_reflection: bool = Field(default=True, description="Whether gRPC server reflection is served.")
    log_format: Format = Field(default="text", description="Form of the log lines: `text` or `json`.")
    log_level: str = Field(default="INFO", description="Least level that is logged.")

    @property
    def database_url(self) -> str:
        """Where the database is."""
        return self.database or f"sqlite://{(self.data_dir / 'context.db').absolute()}"

    @property
    def backups(self) -> Path:
        """Where backups lie."""
        data = self.data_dir.absolute()
        return self.backup_dir or data.with_name(f"{data.name}-backups")
