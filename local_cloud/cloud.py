"""The local cloud: S3 and EMR over one folder, and the environment in which clients find them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from local_cloud.addresses import LOOPBACK, reached_at
from local_cloud.clients import catalog_variables, s3_variables
from local_cloud.emr.processes import end_tree
from local_cloud.emr.server import EmrEndpoint
from local_cloud.java import java_home
from local_cloud.lock import FolderLock
from local_cloud.proxies import no_proxy_variables
from local_cloud.s3 import ObjectStorage

BUCKETS = ("fruits-images", "fruits-lake")
# In the environment of every program that a cloud starts; its rclone alone has the second.
FOLDER_MARK = "LOCAL_CLOUD_FOLDER"
_S3_MARK = "LOCAL_CLOUD_S3"


def environment_file(folder: Path) -> Path:
    """Return the file in which a cloud that was started with `up` tells its environment."""
    return folder / "environment.json"


class LocalCloud:
    """S3 and EMR on this machine; what they hold and their ports survive under *folder*.

    Use it as a context manager. `s3/` has the buckets, `emr/` the clusters and the journal,
    `catalog.db` the Iceberg catalog. FolderInUseError when another one runs over the folder.
    Both listen on the address *bind*. A port that is given is taken, or RuntimeError says that it
    is in use; else it is that of last time if it is free.
    """

    def __init__(
        self, folder: Path, bind: str = LOOPBACK, s3_port: int = 0, emr_port: int = 0
    ) -> None:
        self.folder = folder.resolve()
        self._bind = bind
        self._wanted = {"s3": s3_port} if s3_port else {}
        self._wanted |= {"emr": emr_port} if emr_port else {}
        self._stack = ExitStack()
        self._storage: ObjectStorage | None = None
        self._emr: EmrEndpoint | None = None

    @property
    def storage(self) -> ObjectStorage:
        """The running S3."""
        if self._storage is None:
            raise RuntimeError("The local cloud is not running: use it in a `with` statement")
        return self._storage

    @property
    def emr(self) -> EmrEndpoint:
        """The running EMR endpoint."""
        if self._emr is None:
            raise RuntimeError("The local cloud is not running: use it in a `with` statement")
        return self._emr

    def start(self) -> Self:
        """Start both and return once they answer."""
        with ExitStack() as stack:
            lock = FolderLock(self.folder)
            lock.acquire()
            stack.callback(lock.release)
            # A cloud that was killed leaves its rclone, and that its port.
            end_tree((_S3_MARK, str(self.folder)))
            environment_file(self.folder).unlink(missing_ok=True)  # which told of another port
            ports = self._ports() | self._wanted
            self._storage = self._start_s3(ports.get("s3", 0))
            stack.callback(self._storage.stop)
            for bucket in BUCKETS:
                self._storage.make_bucket(bucket)
            self._emr = stack.enter_context(self._start_emr(ports.get("emr", 0)))
            self._keep_ports()
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Stop both and end every process that they started."""
        self._stack.close()
        self._storage = self._emr = None

    def environment(self) -> dict[str, str]:
        """Return the variables by which every client (boto3, obstore, PyIceberg, Spark) gets here.

        Add them to a process's own environment; they have standard names only.
        """
        return (
            self._services()
            | {"AWS_ENDPOINT_URL_EMR": self.emr.endpoint_url}
            | catalog_variables(self.storage.endpoint_url, self.folder)
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _services(self) -> dict[str, str]:
        return (
            s3_variables(self.storage.endpoint_url)
            | {"JAVA_HOME": str(java_home())}
            | no_proxy_variables([LOOPBACK, "localhost", reached_at(self._bind)])
        )

    def _start_s3(self, port: int) -> ObjectStorage:
        mark = {FOLDER_MARK: str(self.folder), _S3_MARK: str(self.folder)}
        try:
            return ObjectStorage(self.folder / "s3", port, mark, self._bind).start()
        except RuntimeError:
            if not port or "s3" in self._wanted:
                raise
            # Somebody else listens on the port of last time.
            return ObjectStorage(self.folder / "s3", 0, mark, self._bind).start()

    def _start_emr(self, port: int) -> EmrEndpoint:
        services = self._services() | {FOLDER_MARK: str(self.folder)}
        arguments = (self.folder / "emr", self.storage.folder, services)
        try:
            return EmrEndpoint(*arguments, port=port, bind=self._bind)
        except OSError as error:
            if "emr" in self._wanted:
                raise RuntimeError(f"The local EMR cannot have port {port}: {error}") from error
            return EmrEndpoint(*arguments, bind=self._bind)

    def _ports(self) -> dict[str, int]:
        file = self.folder / "ports.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def _keep_ports(self) -> None:
        ports = {"s3": self.storage.port, "emr": self.emr.port}
        draft = self.folder / "ports.json.new"
        draft.write_text(json.dumps(ports))
        draft.replace(self.folder / "ports.json")
