"""Servers of our own that PyPI has no wheels of: from Debian's packages, on ports of our own.

The Makefile installs the packages; a test that needs one of them fails where it is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from tests.processes import LOCALHOST, OwnServer, existing, reachable, spawn

__all__ = ["OwnMariaDb", "OwnPgBouncer"]


class OwnMariaDb(OwnServer):
    """MariaDB, with an `admin` who may do all and a `worker` who may do what a store needs."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    @property
    def user(self) -> str | None:
        return "nobody" if os.geteuid() == 0 else None

    def url(self, port: int | None = None, *, user: str = "worker") -> str:
        return f"mariadb+aiomysql://{user}@{LOCALHOST}:{port or self.port}/beats"

    def command(self) -> list[str]:
        binary = existing(Path("/usr/sbin/mariadbd"), "it is of Debian's mariadb-server-core")
        settings = {
            "datadir": f"{self.directory}/data",
            "port": str(self.port),
            "bind-address": LOCALHOST,
            "socket": f"{self.directory}/socket",
            "pid-file": f"{self.directory}/pid",
            "init-file": f"{self.directory}/init.sql",
            "server-id": str(self._number),
            "log-bin": "log",
            "innodb-buffer-pool-size": "16M",
            "innodb-flush-log-at-trx-commit": "0",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(binary), "--no-defaults", "--log-slave-updates", *options]

    def ready(self) -> bool:
        return reachable(LOCALHOST, self.port)

    def start(self) -> None:
        """Start it, at first with a new data directory."""
        if not (self.directory / "data").exists():
            self._create()
        super().start()

    def _create(self) -> None:
        # What is made at a start is not replicated: each server makes the same.
        (self.directory / "init.sql").write_text(
            "SET sql_log_bin = 0;\n"
            "CREATE DATABASE IF NOT EXISTS beats;\n"
            f"CREATE USER IF NOT EXISTS admin@'{LOCALHOST}';\n"
            f"GRANT ALL ON *.* TO admin@'{LOCALHOST}';\n"
            f"CREATE USER IF NOT EXISTS worker@'{LOCALHOST}';\n"
            f"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON beats.* TO worker@'{LOCALHOST}';\n"
        )
        if self.user is not None:
            shutil.chown(self.directory, self.user)
        script = existing(Path("/usr/bin/mariadb-install-db"), "it is of mariadb-server-core")
        options = ["--skip-test-db", "--auth-root-authentication-method=normal"]
        command = [str(script), "--no-defaults", f"--datadir={self.directory}/data", *options]
        with (self.directory / "server.log").open("ab") as log:
            code = spawn(command, self.directory, log.fileno(), self.user).wait(120)
        if code != 0:
            raise RuntimeError(f"mariadb-install-db ended with {code}:\n{self.log}")


class OwnPgBouncer(OwnServer):
    """PgBouncer in transaction mode: two connections of the server for however many clients."""

    stop_signal = signal.SIGINT

    def __init__(self, database_port: int) -> None:
        super().__init__()
        self._database_port = database_port

    @property
    def user(self) -> str | None:
        return "nobody" if os.geteuid() == 0 else None

    def url(self, driver: str) -> str:
        return f"postgresql+{driver}://postgres@{LOCALHOST}:{self.port}/postgres"

    def command(self) -> list[str]:
        settings = self.directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={LOCALHOST} port={self._database_port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = {LOCALHOST}\nlisten_port = {self.port}\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nunix_socket_dir =\n"
        )
        self.directory.chmod(0o755)
        binary = existing(Path("/usr/sbin/pgbouncer"), "it is of Debian's pgbouncer")
        return [str(binary), "--quiet", str(settings)]

    def ready(self) -> bool:
        return reachable(LOCALHOST, self.port)
