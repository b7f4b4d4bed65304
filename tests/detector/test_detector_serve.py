"""The service: many clients at once, bad images, limits, a token, what it counts."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from click.testing import CliRunner
from PIL import Image

from detector import Detector
from detector.cli.main import group
from detector.service import Limits, make_app
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png, read_image

CLIENTS = 200


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    """The trained detector of line/stripes."""
    return Detector.load(trained / "line" / "stripes", device="cpu")


def _served(detector: Detector, limits: Limits, token: str = "") -> Iterator[str]:
    port = _free_port()
    app = make_app(detector, limits, token)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", backlog=1024)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def url(detector: Detector) -> Iterator[str]:
    """The address of a running service with small limits."""
    limits = Limits(most_bytes=200_000, most_pixels=1_000_000, most_waiting=CLIENTS)
    yield from _served(detector, limits)


def test_many_clients_at_once_each_get_their_own_answer(
    url: str, detector: Detector, stripes: Category
) -> None:
    # Every image has a size of its own, so that an answer tells whose it is.
    images = []
    for i in range(CLIENTS):
        whole = read_image(stripes.test[i % len(stripes.test)].path)
        images.append(np.pad(whole, ((0, i % 20), (0, i // 20), (0, 0)), mode="symmetric"))
    wanted = detector.predict(images)
    with httpx.Client(limits=httpx.Limits(max_connections=CLIENTS), timeout=120) as client:

        def ask(image: np.ndarray) -> httpx.Response:
            return client.post(f"{url}/predict", content=encode_png(image))

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(ask, images))
        assert [a.status_code for a in answers] == [200] * CLIENTS
        for image, answer, own in zip(images, answers, wanted, strict=True):
            found = answer.json()
            assert (found["height"], found["width"]) == image.shape[:2]
            assert found["score"] == pytest.approx(own.score, abs=1e-4)
            assert found["decision"] == own.label
        text = client.get(f"{url}/metrics").text
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(counted["detector_images_total"]) == CLIENTS
    assert float(counted['detector_seconds_bucket{le="+Inf"}']) == CLIENTS
    assert float(counted["detector_batches_total"]) < CLIENTS  # they were judged together


def _bomb() -> bytes:
    """A PNG of a few hundred bytes that declares 100 million pixels."""
    content = bytearray(encode_png(np.zeros((1, 1, 3), dtype=np.uint8)))
    content[16:24] = (10_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


def _cut_jpeg() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()[:900]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"hello, I am text", 400, "no image"),
        (b"", 400, "is empty"),
        (_bomb(), 400, "pixels"),
        (_cut_jpeg(), 400, "cannot be decoded"),
        (bytes(300_000), 413, "larger than 200000 bytes"),
    ],
    ids=["text", "empty", "bomb", "cut", "large"],
)
def test_bad_bodies_are_refused_with_a_reason_and_the_server_lives(
    url: str, stripes: Category, body: bytes, status: int, words: str
) -> None:
    answer = httpx.post(f"{url}/predict", content=body, timeout=60)
    assert answer.status_code == status and words in answer.json()["detail"]
    assert "/tmp" not in answer.text
    assert httpx.get(f"{url}/health", timeout=60).json()["status"] == "ok"
    good = httpx.post(f"{url}/predict", content=stripes.test[0].path.read_bytes(), timeout=60)
    assert good.status_code == 200


def test_a_body_without_a_length_is_cut_off_at_the_limit(url: str) -> None:
    answer = httpx.post(f"{url}/predict", content=iter([bytes(50_000)] * 10), timeout=60)
    assert answer.status_code == 413


def test_pictures_come_when_asked_for(url: str, detector: Detector, stripes: Category) -> None:
    path = next(e.path for e in stripes.test if e.anomalous)
    address = f"{url}/predict?include=map,mask"
    found = httpx.post(address, content=path.read_bytes(), timeout=60).json()
    own = detector.predict(path)
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask_png"])))) > 0
    assert (mask == own.mask).mean() > 0.99 and len(found["boxes"]) == len(own.boxes)
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["map_png16"]))))
    assert levels / 65535 * found["map_scale"] == pytest.approx(own.map, abs=1e-3)
    assert httpx.post(f"{url}/predict?include=all", content=b"x").status_code == 400


def test_deep_images_are_read_with_the_range_of_the_training(
    detector: Detector, stripes: Category, tmp_path: Path
) -> None:
    """Posted, opened by Pillow, or by path: the same answer as the same image in 8 bits."""
    eight = next(e.path for e in stripes.test if e.anomalous)
    deep = tmp_path / "deep.png"
    Image.fromarray(read_image(eight)[..., 0].astype(np.uint16) * 16).save(deep)  # 12 of 16 bits
    engine = replace(detector._engine, value_range=(0.0, 255.0 * 16))
    ranged = Detector(engine, detector.decision, detector.facts)
    wanted = detector.predict(eight).score
    assert ranged.predict(deep).score == pytest.approx(wanted, abs=1e-4)
    assert ranged.predict(Image.open(deep)).score == pytest.approx(wanted, abs=1e-4)
    for url in _served(ranged, Limits()):
        found = httpx.post(f"{url}/predict", content=deep.read_bytes(), timeout=60).json()
        assert found["score"] == pytest.approx(wanted, abs=1e-4)


def test_a_token_is_asked_for(detector: Detector, stripes: Category) -> None:
    content = stripes.test[0].path.read_bytes()
    for url in _served(detector, Limits(), token="a-long-enough-secret"):
        for header in ({}, {"Authorization": "Bearer wrong"}):
            answer = httpx.post(f"{url}/predict", content=content, headers=header, timeout=60)
            assert answer.status_code == 401
        right = {"Authorization": "Bearer a-long-enough-secret"}
        answer = httpx.post(f"{url}/predict", content=content, headers=right, timeout=60)
        assert answer.status_code == 200
        assert httpx.get(f"{url}/metrics", timeout=60).status_code == 401
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200


def test_other_addresses_need_a_token_at_the_start(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DETECTOR_TOKEN", raising=False)
    words = ["serve", str(trained / "line" / "stripes"), "--host", "0.0.0.0"]
    done = CliRunner().invoke(group, words)
    assert isinstance(done.exception, UserError) and "DETECTOR_TOKEN" in str(done.exception)
