"""The whole system on one machine: which processes there are, where they listen, how they find each other.

    with Stack(directory, gateways=2, collaboration=2) as stack:
        httpx.get(stack.gateway_urls[0] + "/readyz")

`make run` is such a stack under `.tmi/` with the first gateway on port 8080; tests, the demonstration
and the benchmark have one of their own in a temporary folder on free ports.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from deploy.embedded import instance, reachability
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.process import PROJECT, Process, Program, StartFailure
from deploy.embedded.readiness import grpc_serving, http_ok
from deploy.embedded.sockets import LOOPBACK, PortRegistry, is_free
from deploy.embedded.supervisor import Event, Supervisor
from deploy.embedded.valkey import EmbeddedValkey

_START_SECONDS = 90.0
GATEWAYS_FILE = "gateways"
"""File among the pid files that lists the gateways' URLs while the stack runs."""
OPENID_PROVIDER = "oidc"
"""Id of the OpenID provider beside the system."""
_OPENID_PROCESS = "openid-provider"
_COMMANDS = {"worker": ("services.threat_model", "work")}
"""Processes that are started in another way than as `services.<name>`."""


class Stack:
    """Stores, services and gateways under one supervisor. A context manager, or `start` and `stop`."""

    def __init__(
        self,
        directory: Path,
        *,
        gateways: int = 1,
        collaboration: int = 1,
        threat_model: int = 1,
        first_port: int = 0,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        openid_provider: bool = False,
        report: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """Describes the stack; nothing runs before `start`.

        directory: data, logs and pid files. gateways, collaboration, threat_model: number of processes.
        first_port: the first gateway's, the others follow it; 0 chooses free ports.
        settings: TMI_ variables for every process, and the only ones: those of this process are not
        inherited. TMI_DATABASE_URL or TMI_REDIS_URL among them replace the embedded store.
        openid_provider: whether there is one beside the system, which auth knows as OPENID_PROVIDER.
        durable=False: the data need not survive a crash of the machine, only one of the server.
        """
        self.directory = directory.resolve()
        self.gateway_urls: list[str] = []
        self.database_url = ""
        self.redis_url = ""
        self._counts = {
            "auth": 1,
            "threat-model": threat_model,
            "worker": 1,
            "health": 1,
            "collaboration": collaboration,
            "gateway": gateways,
        }
        self._first_port = first_port
        self._settings = dict(settings or {})
        self._durable = durable
        self.openid_provider = OPENID_PROVIDER if openid_provider else ""
        self._report = report
        self._supervisor: Supervisor | None = None
        self._stores: list[EmbeddedPostgres | EmbeddedValkey] = []
        self._held = ExitStack()

    def start(self) -> None:
        """Starts everything and returns when every gateway is ready. Raises StartFailure, with nothing left running."""
        self._held.enter_context(instance.exclusive(self.directory))
        self.gateway_urls = []
        try:
            instance.stop_leftovers(self.directory)
            ports = PortRegistry(self.directory / "run" / "ports.json")
            gateway_ports = self._gateway_ports(ports)
            self._supervisor = Supervisor(self._report)
            self._start_stores(self._supervisor)
            programs = self._programs(ports, gateway_ports)
            ports.save()
            for program in programs:
                self._supervisor.add(Process(program))
            self._supervisor.wait_ready([program.label for program in programs], _START_SECONDS)
            self._gateways_file.write_text("\n".join(self.gateway_urls))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops gateways and services, which drain, and then the stores."""
        self._gateways_file.unlink(missing_ok=True)
        if self._supervisor is not None:
            labels = self._supervisor.labels()
            gateways = [label for label in labels if label.startswith("gateway-")]
            stores = [store.process.program.label for store in self._stores]
            services = [label for label in labels if label not in gateways and label not in stores]
            self._supervisor.stop([gateways, services, stores])
            self._supervisor = None
            for store in self._stores:
                store.stop()
            self._stores.clear()
        self._held.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid(self, name: str, number: int = 1) -> int:
        """Process id of `name`, such as `collaboration`. Raises StartFailure when it does not run."""
        process = self._running().process(f"{name}-{number}")
        if process.pid is None:
            raise StartFailure(f"{name}-{number} does not run")
        return process.pid

    def pids(self) -> dict[str, int]:
        """Process ids of all running processes by label, such as `gateway-1`."""
        supervisor = self._running()
        found = {label: supervisor.process(label).pid for label in supervisor.labels()}
        return {label: pid for label, pid in found.items() if pid is not None}

    def kill(self, name: str, number: int = 1) -> int:
        """Kills a process as a crash would; the supervisor starts it again. Returns the killed process id."""
        pid = self.pid(name, number)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_replaced(self, name: str, number: int, pid: int, timeout: float = 30.0) -> None:
        """Returns when the killed process `pid` has a successor that answers."""
        self._running().wait_replaced(f"{name}-{number}", pid, timeout)

    @contextmanager
    def frozen(self, name: str, number: int = 1) -> Iterator[None]:
        """Freezes a process for as long as the context lasts: it is there, and does nothing (SIGSTOP)."""
        pid = self.pid(name, number)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def hold(self, name: str, number: int = 1, *, kill: bool = False) -> None:
        """Stops a process, or kills it, and keeps it down until `release`."""
        self._running().hold(f"{name}-{number}", kill=kill)

    def release(self, name: str, number: int = 1) -> None:
        """Starts a held process again and returns when it answers."""
        label = f"{name}-{number}"
        self._running().release(label)
        self._running().wait_ready([label], _START_SECONDS)

    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise StartFailure("the stack does not run")
        return self._supervisor

    def _gateway_ports(self, registry: PortRegistry) -> list[int]:
        """Raises StartFailure when a port that was asked for is taken."""
        count = self._counts["gateway"]
        if not self._first_port:
            return [registry.port(f"gateway-{number}") for number in range(1, count + 1)]
        wanted = list(range(self._first_port, self._first_port + count))
        for port in wanted:
            if not 0 < port < 65536:
                raise StartFailure(f"{port} is no port: set TMI_SERVER_PORT to a number below {65536 - count}.")
            if not is_free(port):
                raise StartFailure(
                    f"Port {port} is in use: stop the program that listens there, or choose another base port, "
                    f"such as `make run TMI_SERVER_PORT={self._first_port + 1000}`."
                )
        return wanted

    def _start_stores(self, supervisor: Supervisor) -> None:
        self.database_url = self._settings.get("TMI_DATABASE_URL", "")
        self.redis_url = self._settings.get("TMI_REDIS_URL", "")
        postgres = valkey = None
        if self.database_url:
            reachability.require_database(self.database_url)
        else:
            postgres = EmbeddedPostgres(
                self.directory / "postgres",
                durable=self._durable,
                start=False,
                log=self._log("postgres-1"),
                pid_file=self._pid_file("postgres-1"),
            )
            self._stores.append(postgres)
        if self.redis_url:
            reachability.require_redis(self.redis_url)
        else:
            valkey = EmbeddedValkey(
                self.directory / "valkey",
                start=False,
                log=self._log("valkey-1"),
                pid_file=self._pid_file("valkey-1"),
            )
            self._stores.append(valkey)
            self.redis_url = valkey.url
        for store in self._stores:
            supervisor.add(store.process)
        supervisor.wait_ready([store.process.program.label for store in self._stores], _START_SECONDS)
        if postgres is not None:
            self.database_url = postgres.url("tmi")

    def _programs(self, registry: PortRegistry, gateway_ports: list[int]) -> list[Program]:
        """Every service process, then every gateway."""
        services = {
            f"{name}-{number}": (name, number, registry.port(f"{name}-{number}"))
            for name, count in self._counts.items()
            if name != "gateway"
            for number in range(1, count + 1)
        }
        common = self._common_settings(gateway_ports[0])
        for name in self._counts:
            if name not in ("gateway", "worker"):  # nobody calls a worker
                addresses = [f"{LOOPBACK}:{port}" for each, _, port in services.values() if each == name]
                variable = f"TMI_{name.replace('-', '_').upper()}_ADDRESS"
                common[variable] = ",".join(addresses)
        programs = []
        of_auth: dict[str, str] = {}
        if self.openid_provider:
            programs.append(self._openid_program(registry, common["TMI_OAUTH_CALLBACK_URL"], of_auth))
        for name, number, port in services.values():
            command = _COMMANDS.get(name, (f"services.{name.replace('-', '_')}",))
            own = {"TMI_GRPC_PORT": str(port)} | (of_auth if name == "auth" else {})
            programs.append(
                self._program(registry, name, number, command, common | own, grpc_serving(f"{LOOPBACK}:{port}"))
            )
        for number, port in enumerate(gateway_ports, start=1):
            self.gateway_urls.append(f"http://localhost:{port}")
            check = http_ok(f"http://{LOOPBACK}:{port}/readyz")
            own = {"TMI_SERVER_PORT": str(port)}
            programs.append(self._program(registry, "gateway", number, ("gateway",), common | own, check))
        return programs

    def _openid_program(self, registry: PortRegistry, callback_url: str, of_auth: dict[str, str]) -> Program:
        """The OpenID provider. of_auth: gets the settings with which auth is its client."""
        port = registry.port(f"{_OPENID_PROCESS}-1")
        issuer = f"http://localhost:{port}"
        secret = secrets.token_urlsafe(32)
        prefix = f"OAUTH_PROVIDERS_{OPENID_PROVIDER.upper()}_"
        fields = {"NAME": "OpenID (this machine)", "ISSUER": issuer, "CLIENT_ID": "tmi", "CLIENT_SECRET": secret}
        of_auth.update({prefix + field: value for field, value in fields.items()})
        return Program(
            name=_OPENID_PROCESS,
            command=[sys.executable, "-m", "deploy.embedded.openid_provider", str(port), callback_url],
            environment={"PYTHONPATH": str(PROJECT), "CLIENT_ID": "tmi", "CLIENT_SECRET": secret},
            is_ready=http_ok(f"{issuer}/.well-known/openid-configuration"),
            log=self._log(f"{_OPENID_PROCESS}-1"),
            pid_file=self._pid_file(f"{_OPENID_PROCESS}-1"),
        )

    def _common_settings(self, first_port: int) -> dict[str, str]:
        defaults = {
            "TMI_BUILD_MODE": "dev",
            "TMI_OAUTH_CALLBACK_URL": f"http://localhost:{first_port}/oauth2/callback",
        }
        return {
            **defaults,
            **self._settings,
            "TMI_DATABASE_URL": self.database_url,
            "TMI_REDIS_URL": self.redis_url,
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "build" / "stubs")]),
        }

    def _program(
        self,
        registry: PortRegistry,
        name: str,
        number: int,
        command: Sequence[str],
        environment: dict[str, str],
        is_ready: Callable[[], bool],
    ) -> Program:
        environment["TMI_METRICS_PORT"] = str(registry.port(f"{name}-{number}-metrics"))
        return Program(
            name=name,
            number=number,
            command=[sys.executable, "-m", *command],
            environment=environment,
            is_ready=is_ready,
            log=self._log(f"{name}-{number}"),
            pid_file=self._pid_file(f"{name}-{number}"),
        )

    @property
    def _gateways_file(self) -> Path:
        return self.directory / "run" / GATEWAYS_FILE

    def _log(self, label: str) -> Path:
        return self.directory / "log" / f"{label}.log"

    def _pid_file(self, label: str) -> Path:
        return self.directory / "run" / f"{label}.pid"
