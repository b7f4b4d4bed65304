"""A run's progress for Prometheus: a text file for node-exporter's collector, or a port."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server, write_to_textfile

from sia_gen.core.errors import UserError
from sia_gen.core.log import warn

HERE = "127.0.0.1"
FIGURES = {
    "images": "Images of the whole run.",
    "images_done": "Images in finished shards.",
    "images_in_work": "Images of unfinished shards.",
    "shards": "Shards of the whole run.",
    "shards_done": "Finished shards.",
    "shards_failed": "Shards given up since this start.",
    "retries": "Attempts lost since this start.",
    "images_per_second": "Rate of this driver since its first worker was ready.",
    "seconds_left": "Estimated time left.",
}


class Metrics:
    """Gauges `sia_gen_run_*` with the label `run`; what is not known yet is absent."""

    def __init__(self, run: str, file: str = "", port: int | None = None) -> None:
        """Makes the file's place and the port sure; UserError where they cannot be had."""
        self.run, self.file, self.registry = run, file, CollectorRegistry()
        self._gauges = {
            name: Gauge(f"sia_gen_run_{name}", told, ["run"], registry=self.registry)
            for name, told in FIGURES.items()
        }
        self._time = Gauge(
            "sia_gen_run_updated_timestamp_seconds", "When these figures were taken.", ["run"],
            registry=self.registry,
        )  # fmt: skip
        try:
            self._write()
        except OSError as error:
            raise UserError(
                f"--metrics-file {file} cannot be written: {error.strerror or error}"
            ) from error
        try:
            self._server = start_http_server(port, HERE, self.registry)[0] if port else None
        except OSError as error:
            raise UserError(
                f"--metrics-port {port}: {error.strerror or error}: give another port"
            ) from error

    def update(self, figures: Mapping[str, Any]) -> None:
        """Takes the figures of a moment, as progress.json has them."""
        for name, gauge in self._gauges.items():
            if figures.get(name) is not None:
                gauge.labels(self.run).set(figures[name])
        self._time.labels(self.run).set(time.time())
        try:
            self._write()
        except OSError as error:  # the run is worth more than what is told of it
            warn(f"--metrics-file {self.file} cannot be written: {error.strerror or error}")

    def _write(self) -> None:
        if self.file:
            write_to_textfile(self.file, self.registry)

    def close(self) -> None:
        """Frees the port; the file keeps the last figures."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
