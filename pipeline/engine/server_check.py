"""What a Redis or Valkey must be like to carry the mesh, and whether one lost what was written to it.

The one home of these rules: the mesh asks on every connection to a server it does not know (``ServerWatch``), before
anything else is done there; ``aiops doctor`` shows the same findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterDownError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from pipeline.engine.acknowledged import Acknowledged
from pipeline.engine.keys import Keys
from pipeline.engine.record import BEGINNING, Offset
from topology.errors import ConfigurationError

REDIS_MIN = (7, 0)
STAGES_EXAMINED_MAX = 10_000
"""Of so many partitions of stages ``doctor`` compares what is stored, so that it ends."""


class UnfitServerError(ConfigurationError):
    """The server cannot carry the mesh as it is set up; nothing was written to it."""


class ClusterMetError(Exception):
    """The server is a node of a cluster, and was met by a client for one server; nothing was done there."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself; empty or None where it does not say.

    Attributes:
        compatible: the version of Redis whose commands it knows; a Valkey has another version of its own.
        policy: what it does when its memory is full.
        persists: whether every write goes to disk.
        run_id: another one after every start, and of every server.
        role: ``master`` or ``slave``.
        clustered: whether it is a node of a cluster.
        scripts: why Lua cannot be used; empty when it can.
    """

    engine: str
    version: str
    compatible: str
    policy: str | None
    persists: bool | None
    run_id: str
    scripts: str = ""
    role: str = ""
    clustered: bool = False

    def __str__(self) -> str:
        persists = {True: "yes", False: "no", None: "unknown"}[self.persists]
        cluster = " cluster" if self.clustered else ""
        return (
            f"{self.engine} {self.version}{cluster}, maxmemory-policy {self.policy or 'unknown'}, appendonly {persists}"
        )


class Finding(NamedTuple):
    """Something about a server that is not as it must be (``error``) or should be (``warning``)."""

    severity: Literal["error", "warning"]
    what: str
    remedy: str


def facts_of(info: Mapping[str, Any], scripts: str = "") -> ServerFacts:
    """The facts in what ``INFO`` answered."""
    engine = "Valkey" if "valkey_version" in info else "Redis"
    compatible = str(info.get("redis_version", ""))
    policy, persists = info.get("maxmemory_policy"), info.get("aof_enabled")
    return ServerFacts(
        engine=engine,
        version=str(info.get("valkey_version", compatible)),
        compatible=compatible,
        policy=None if policy is None else str(policy),
        persists=None if persists is None else str(persists) == "1",
        run_id=str(info.get("run_id", "")),
        scripts=scripts,
        role=str(info.get("role", "")),
        clustered=str(info.get("cluster_enabled", "0")) == "1",
    )


def findings(facts: ServerFacts, *, require_persistence: bool = False) -> list[Finding]:
    """What is wrong with a server, worst first; what it does not say is not held against it."""
    found = []
    version = tuple(int(part) for part in facts.compatible.split(".") if part.isdigit())
    if version and version < REDIS_MIN:
        remedy = f"expected Redis {'.'.join(map(str, REDIS_MIN))} or later, or a Valkey; upgrade the server"
        found.append(Finding("error", f"{facts.engine} {facts.version} is too old", remedy))
    if facts.scripts:
        remedy = "commits are Lua scripts; allow EVAL, EVALSHA and SCRIPT LOAD to this user"
        found.append(Finding("error", f"it runs no Lua: {facts.scripts}", remedy))
    if facts.policy not in {None, "noeviction"}:
        remedy = "it may drop events that nobody has read; set maxmemory-policy noeviction"
        found.append(Finding("error", f"maxmemory-policy is {facts.policy}", remedy))
    if facts.persists is False:
        remedy = "what was accepted is lost when the server restarts; set appendonly yes"
        found.append(Finding("error" if require_persistence else "warning", "nothing is written to disk", remedy))
    return found


async def look_at(redis: Redis) -> ServerFacts:
    """Ask a server; raises what the client raises when it is away."""
    info: dict[str, Any] = await redis.info()
    try:
        await redis.eval("return 1", 0)
    except ResponseError as error:
        return facts_of(info, str(error))
    return facts_of(info)


async def lost_writes(redis: Redis | RedisCluster, namespace: str) -> list[str]:
    """Commits that say more was read from a stream than the server still knows of; one sentence each."""
    keys = Keys(namespace)
    found: list[str] = []
    examined = 0
    async for name in redis.scan_iter(match=keys.all_owned("offsets"), count=1_000, _type="hash"):
        stage, partition = keys.stage_of(_text(name))
        committed = {_text(field): _text(value) for field, value in (await redis.hgetall(name)).items()}
        for field, offset in committed.items():
            stream, slash, number = field.rpartition("/")
            if not slash or field.endswith("#"):
                continue
            try:
                info: Mapping[str, Any] = await redis.xinfo_stream(keys.partition((stream, int(number))))
            except ResponseError:  # there is no such stream any more
                info = {}
            reason = missing(Offset.parse(offset), int(committed.get(f"{field}#", 0)), info)
            if reason:
                found.append(f"{stage}/{partition} has committed {offset} of {field}, but {reason}")
        examined += 1
        if examined >= STAGES_EXAMINED_MAX:
            break
    return found


def missing(committed: Offset, read: int, info: Mapping[str, Any] | None) -> str:
    """What a stream lacks of what was read from it; empty when it lacks nothing.

    Args:
        committed: up to where it was read.
        read: how many records that were since the stream began.
        info: the answer of ``XINFO STREAM``; None or empty when there is no such stream.
    """
    if committed == BEGINNING:
        return ""
    if not info:
        return "the server has no such stream"
    last = Offset.parse(info["last-generated-id"])
    if last < committed:
        return f"the server's last event is {last}"
    added = int(info.get("entries-added", read))
    # A stream that vanished and began anew has later events, but fewer.
    return f"of the {read} events read the server has had {added}" if added < read else ""


class ServerWatch:
    """Meets every server a client connects to before anything else is done there.

    Args:
        in_cluster: whether the client is one for a cluster.

    Attributes:
        warnings: what should be different about the server met last.
    """

    def __init__(
        self,
        acknowledged: Acknowledged,
        *,
        in_cluster: bool = False,
        require_persistence: bool = False,
        on_warning: Callable[[Finding], None] | None = None,
    ) -> None:
        self._acknowledged = acknowledged
        self._in_cluster = in_cluster
        self._require_persistence = require_persistence
        self._on_warning = on_warning
        self._known: dict[Any, tuple[str, str]] = {}
        self.warnings: list[Finding] = []

    async def greet(self, connection: AbstractConnection) -> None:
        """Prepare a new connection; a ``redis_connect_func`` of redis-py.

        Raises:
            UnfitServerError: the server must not carry a mesh; what to do is said.
            LostWritesError: the server has forgotten what it had acknowledged to this process.
            ClusterMetError: it needs a client for a cluster.
        """
        try:
            await connection.on_connect()
            await self._meet(connection)
        except BaseException:
            await connection.disconnect(nowait=True)  # or it would be used as if all were well
            raise

    async def _meet(self, connection: AbstractConnection) -> None:
        info, script = await ask(connection, [("INFO",), ("EVAL", "return 1", 0)])
        if isinstance(info, RedisError):
            facts = facts_of({})  # not allowed to ask; what was acknowledged is compared all the same
        else:
            facts = facts_of(_parsed(info), str(script) if isinstance(script, ResponseError) else "")
        if facts.clustered and not self._in_cluster:
            raise ClusterMetError
        address = getattr(connection, "host", None), getattr(connection, "port", None)
        # A replica that was promoted is asked again: it knew nothing of its own before.
        if facts.run_id and self._known.get(address) == (facts.run_id, facts.role):
            return
        found = findings(facts, require_persistence=self._require_persistence)
        errors = [f"{finding.what}: {finding.remedy}" for finding in found if finding.severity == "error"]
        if errors:
            msg = f"found {facts} as the mesh's server; {'; '.join(errors)}"
            raise UnfitServerError(msg)
        await self._acknowledged.compare(lambda commands: ask(connection, commands))
        self._known[address] = facts.run_id, facts.role
        warnings, self.warnings = self.warnings, [finding for finding in found if finding.severity == "warning"]
        for finding in self.warnings:
            if self._on_warning is not None and finding not in warnings:
                self._on_warning(finding)


async def ask(connection: AbstractConnection, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Answers to commands on one connection, errors of single ones among them.

    Raises:
        RedisConnectionError: the connection broke, or the server is still loading.
        ClusterDownError: other nodes of its cluster are away, so it says nothing.
    """
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except (RedisConnectionError, ClusterDownError):
            raise
        except RedisError as error:
            answers.append(error)
    return answers


def _parsed(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in _text(info).splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
