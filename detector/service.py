"""A detector that answers over HTTP: one image a request, batches made of those that wait.

    POST /predict            an image file as the body
    GET  /health             what is served
    GET  /metrics            counts and times as Prometheus text

Requests are decoded in threads and judged together by one worker, which is the only one to touch
the network; each waits for its own answer, so none can get another's.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from detector.api import Detector
from detector.inference.files import encode_map
from detector.inference.memory import of_bytes
from detector.inference.pipeline import workers
from detector.maps import BATCH
from detector.prediction import Prediction
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.text import shown

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # seconds
PARTS = ("map", "mask")
GATHER = 0.005  # seconds in which requests that come together join one batch


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may be: bytes of its body, pixels of its image, requests that wait at once."""

    most_bytes: int = 32 << 20
    most_pixels: int = 32_000_000
    most_waiting: int = 512


class Counts:
    """What /metrics tells: requests by status, images and alarms, batches, seconds."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "detector_requests", "Answers by HTTP status.", ["status"], registry=registry
        )
        self.anomalous = Counter(
            "detector_anomalous", "Images above the threshold.", registry=registry
        )
        self.images = Counter("detector_images", "Images judged.", registry=registry)
        self.batches = Counter("detector_batches", "Batches judged.", registry=registry)
        self.waiting = Gauge("detector_waiting", "Images that wait for a batch.", registry=registry)
        self.seconds = Histogram(
            "detector_seconds", "Seconds until an answer.", buckets=BUCKETS, registry=registry
        )


class Batcher:
    """Judges what waits, at most a batch at a time, in a thread of its own."""

    def __init__(self, detector: Detector, counts: Counts, limits: Limits) -> None:
        self.detector, self.counts = detector, counts
        self.queue: asyncio.Queue[tuple[Array8, asyncio.Future[Prediction]]]
        self.queue = asyncio.Queue(limits.most_waiting)
        counts.waiting.set_function(self.queue.qsize)
        self.network = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")

    async def ask(self, image: Array8) -> Prediction:
        """Returns the answer of one image; asyncio.QueueFull where too many wait."""
        answer: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((image, answer))
        return await answer

    async def work(self) -> None:
        """Takes batches for ever; a batch that fails fails its own requests alone."""
        loop = asyncio.get_running_loop()
        while True:
            waiting = [await self.queue.get()]
            if self.queue.empty():
                await asyncio.sleep(GATHER)
            while len(waiting) < BATCH and not self.queue.empty():
                waiting.append(self.queue.get_nowait())
            images = [image for image, _ in waiting]
            try:
                found = await loop.run_in_executor(self.network, self.detector.predict, images)
            except Exception as error:  # whatever it is, those who wait must hear of it
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            self.counts.batches.inc()
            for (_, answer), prediction in zip(waiting, found, strict=True):
                if not answer.done():  # its client may have gone
                    answer.set_result(prediction)


def _document(prediction: Prediction, parts: set[str], scale: float) -> dict[str, Any]:
    """Returns the answer as JSON: numbers, boxes, and the pictures that were asked for."""
    found = prediction.as_dict()
    found["boxes"] = [
        dict(zip(("x", "y", "width", "height", "area", "score"), box, strict=True))
        for box in found["boxes"]
    ]
    found["promise"] = prediction.promise
    if "mask" in parts:
        mask = encode_png(prediction.mask.astype(np.uint8) * 255)
        found["mask_png"] = base64.b64encode(mask).decode()
    if "map" in parts:
        found["map_png16"] = base64.b64encode(encode_map(prediction.map, scale)).decode()
        found["map_scale"] = scale
    return found


async def _body(request: Request, limits: Limits) -> bytes:
    """Returns the image's bytes; HTTPException 413 as soon as there are too many."""
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or int(told) > limits.most_bytes:
        raise HTTPException(413, f"the body is larger than {limits.most_bytes} bytes")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > limits.most_bytes:
            raise HTTPException(413, f"the body is larger than {limits.most_bytes} bytes")
    return bytes(content)


def make_app(detector: Detector, limits: Limits, token: str = "") -> FastAPI:
    """Returns the application; with a token every request but /health must carry it.

    Header `Authorization: Bearer TOKEN`.
    """
    counts = Counts()
    batcher = Batcher(detector, counts, limits)
    readers = ThreadPoolExecutor(max_workers=workers(), thread_name_prefix="read")
    scale = max(1.0, 4 * detector.threshold)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(batcher.work())
        yield
        task.cancel()
        readers.shutdown(cancel_futures=True)
        batcher.network.shutdown(cancel_futures=True)

    app = FastAPI(title="detector", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def guard(request: Request, proceed: Any) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        known = not token or hmac.compare_digest(given.encode(), token.encode())
        if not known and request.url.path != "/health":
            counts.requests.labels(401).inc()
            text = '{"detail":"a token is needed"}'
            return Response(text, 401, media_type="application/json")
        response: Response = await proceed(request)
        counts.requests.labels(response.status_code).inc()
        return response

    @app.post("/predict")
    async def predict(request: Request, include: str = "") -> dict[str, Any]:
        """Answers for the image in the body; `include=map,mask` adds pictures."""
        parts = {part for part in include.split(",") if part}
        if not parts <= set(PARTS):
            raise HTTPException(400, f"include={include[:60]!r}: expected map, mask or both")
        began = time.monotonic()
        content = await _body(request, limits)
        loop = asyncio.get_running_loop()
        try:
            image = await loop.run_in_executor(
                readers, of_bytes, content, "the image", limits.most_pixels, detector.value_range
            )
        except UserError as error:
            raise HTTPException(400, shown(str(error))) from error
        try:
            prediction = await batcher.ask(image)
        except asyncio.QueueFull as error:
            raise HTTPException(503, "too many requests wait", {"Retry-After": "1"}) from error
        found = await loop.run_in_executor(readers, _document, prediction, parts, scale)
        counts.images.inc()
        counts.anomalous.inc(prediction.anomalous)
        counts.seconds.observe(time.monotonic() - began)
        return found

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tells what is served; it answers as long as the server lives."""
        return {
            "status": "ok",
            "category": detector.category,
            "checkpoint_sha256": detector.facts["sha256"],
            "threshold": detector.threshold,
            "promise": detector.promise,
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        """Tells counts and times for Prometheus."""
        return Response(generate_latest(counts.registry), media_type=CONTENT_TYPE_LATEST)

    return app
