"""Requests to the application, in this process: replies, refusals, batches."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch

from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.predictor import Predictor
from igcv3det.structures import Categories, Detections

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from igcv3det.service import Limits, build_app

CATEGORIES = Categories((1, 7), ("cat", "dog"))
CONFIG = DetectorConfig(
    num_classes=2,
    image_size=64,
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(16, 16)),
)


def encoded(size=(40, 30), kind="JPEG", **options):
    """A file of noise, (width, height)."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def turned():
    """A JPEG that a viewer turns by 90 degrees."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return encoded(exif=exif)


def png_of(width, height):
    """A PNG whose header states a size, with hardly any data."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg_of_scans(count):
    """A JPEG whose scan header occurs more often than any encoder writes it."""
    whole = encoded()
    start = whole.index(b"\xff\xda")
    return whole[:-2] + whole[start : start + 14] * count + whole[-2:]


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    detector = build_detector(CONFIG, CATEGORIES)
    for parameter in detector.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # scores that differ
    return Predictor(detector)


@pytest.fixture(scope="module")
def client(predictor):
    limits = Limits(max_bytes=100_000, max_pixels=100 * 100)
    with TestClient(build_app(predictor, limits), raise_server_exceptions=False) as own:
        yield own


@pytest.mark.parametrize("image", [encoded(), encoded(kind="PNG"), turned()], ids=len)
@pytest.mark.parametrize("form", [False, True])
def test_a_reply_is_the_record_of_predict(client, predictor, image, form):
    given = {"files": {"image": ("a.jpg", image)}} if form else {"content": image}
    reply = client.post("/detect", params={"threshold": 0.1}, **given)
    expected = predictor(PIL.Image.open(io.BytesIO(image)), threshold=0.1)
    assert reply.status_code == 200
    record = reply.json()
    width, height = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(image))).size
    assert (record["file"], record["width"], record["height"]) == (
        "a.jpg" if form else "upload",
        width,
        height,
    )
    assert len(record["detections"]) == len(expected) > 0
    for own, other in zip(record["detections"], expected.to_dict()["detections"], strict=True):
        assert list(own) == ["label", "category_id", "score", "box"]
        assert (own["label"], own["category_id"]) == (other["label"], other["category_id"])
        assert own["score"] == pytest.approx(other["score"], abs=1e-5)
        assert own["box"] == pytest.approx(other["box"], abs=0.01)


def test_classes_are_chosen_before_the_limit(client):
    query = "/detect?threshold=0.0"
    found = client.post(query, content=encoded()).json()["detections"]
    dogs = client.post(f"{query}&classes=dog", content=encoded()).json()["detections"]
    assert len(found) == 100
    assert len(dogs) > sum(one["label"] == "dog" for one in found)


def test_classes_and_threshold_choose_detections(client):
    found = client.post("/detect?threshold=0.35", content=encoded()).json()["detections"]
    dogs = client.post("/detect?threshold=0.35&classes=dog", content=encoded()).json()["detections"]
    assert dogs == [one for one in found if one["label"] == "dog"]
    assert 0 < len(dogs) < len(found) < 100
    scores = sorted({one["score"] for one in found})
    middle = (scores[-2] + scores[-1]) / 2
    above = client.post(f"/detect?threshold={middle}", content=encoded()).json()["detections"]
    assert above == [one for one in found if one["score"] > middle]


FORM_HEADERS = {"content-type": "multipart/form-data; boundary=b"}
FORM_START = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
HOSTILE = {
    "empty": ("", {"content": b""}, 400, "no body"),
    "text": ("", {"content": b"hello " * 50}, 415, "not an image"),
    "pdf": ("", {"content": b"%PDF-1.7\n" + bytes(500)}, 415, "not an image"),
    "svg": ("", {"content": b"<svg width='1' height='1'/>"}, 415, "not an image"),
    "truncated": ("", {"content": encoded()[:900]}, 422, "cut off"),
    "header only": ("", {"content": encoded(kind="PNG")[:40]}, 415, "cut off"),
    "too many bytes": ("", {"content": bytes(100_001)}, 413, "larger than 100000"),
    "chunked": ("", {"content": (bytes(9000) for _ in range(20))}, 413, "larger than 100000"),
    "too many pixels": ("", {"content": encoded((101, 100))}, 413, "101 x 100"),
    "bomb": ("", {"content": png_of(10_000, 10_000)}, 413, "10000 x 10000"),
    "larger bomb": ("", {"content": png_of(60_000, 60_000)}, 413, "3600000000 pixels"),
    "scans": ("", {"content": jpeg_of_scans(40)}, 422, "more than 32 scans"),
    "form without file": ("", {"data": {"image": "x"}, "files": {}}, 415, "not an image"),
    "form of fields": ("", {"files": {"image": (None, "x")}}, 400, "no file"),
    "form of two": ("", {"files": {"a": encoded(), "b": encoded()}}, 400, "Too many files"),
    "form of nothing": ("", {"files": {"image": ("a.jpg", b"")}}, 400, "a.jpg: the file is empty"),
    "form of text": ("", {"files": {"image": ("a.jpg", b"text")}}, 415, "a.jpg: not an image"),
    "form too large": ("", {"files": {"image": bytes(100_001)}}, 413, "larger than 100000"),
    "option in a form": (
        "",
        {"data": {"threshold": "0.9"}, "files": {"image": encoded()}},
        400,
        "threshold is no form field: give it in the query",
    ),
    "broken form": (
        "",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "boundary",
    ),
    "form cut off in its file": (
        "",
        {"content": FORM_START + b"\xff\xd8\xff", "headers": FORM_HEADERS},
        400,
        "the form is cut off: its closing boundary is missing",
    ),
    "form cut off in its head": (
        "",
        {"content": FORM_START[:30], "headers": FORM_HEADERS},
        400,
        "the form is cut off: its closing boundary is missing",
    ),
    "form without parts": ("", {"content": b"--b--\r\n", "headers": FORM_HEADERS}, 400, "no file"),
    "threshold": ("threshold=1", {"content": encoded()}, 400, "threshold: "),
    "no number": ("threshold=high", {"content": encoded()}, 400, "threshold: "),
    "nan": ("threshold=nan", {"content": encoded()}, 400, "threshold: "),
    "no class": ("classes=,", {"content": encoded()}, 400, "classes: names no class"),
    "class": ("classes=dgo", {"content": encoded()}, 400, "did you mean 'dog'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_is_refused_in_one_sentence(client, case):
    query, given, status, words = HOSTILE[case]
    reply = client.post(f"/detect?{query}", **given)
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"file", "error"}
    assert words in reply.json()["error"]
    assert client.post("/detect", content=encoded()).status_code == 200


def test_other_paths_and_methods(client):
    assert client.get("/").status_code == 404
    assert client.get("/detect").status_code == 405
    assert client.get("/health").json() == {"status": "ready", "classes": ["cat", "dog"]}


def test_metrics_count_requests_by_status(predictor):
    with TestClient(build_app(predictor)) as client:
        client.post("/detect", content=encoded())
        client.post("/detect", content=b"text")
        client.get("/nothing")
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'igcv3det_requests_total{path="/detect",status="200"} 1.0',
        'igcv3det_requests_total{path="/detect",status="415"} 1.0',
        'igcv3det_requests_total{path="other",status="404"} 1.0',
        'igcv3det_request_seconds_count{path="/detect"} 2.0',
        'igcv3det_batch_images_bucket{le="1.0"} 1.0',
        "igcv3det_in_flight 0.0",
    ):
        assert line in lines


class Held:
    """A predictor that waits for permission, and finds one cat of score 0.5 and one of 0.9."""

    categories = CATEGORIES

    def __init__(self):
        self.goes = threading.Event()
        self.started = threading.Event()
        self.batches = []
        self.fails = False

    def preprocess(self, image):
        return torch.zeros(3, 4, 4)

    def detect(self, tensors, sizes, threshold, labels):
        self.batches.append(len(tensors))
        self.started.set()
        assert self.goes.wait(10)
        if self.fails:
            raise RuntimeError("the network failed")
        found = Detections(
            torch.tensor([[0.0, 0, 2, 2]] * 2),
            torch.tensor([0.9, 0.5]),
            torch.tensor([1, 1]),
            CATEGORIES,
        )
        return [found[found.scores > threshold] for _ in tensors]


@pytest.fixture
def held():
    own = Held()
    yield own
    own.goes.set()


def _post(client, threshold=0.1):
    return client.post(f"/detect?threshold={threshold}", content=encoded())


def _wait_until(condition):
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("did not happen in 5 s")


def _in_flight(client):
    text = client.get("/metrics").text
    return next(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("igcv3det_in_flight ")
    )


def test_what_waits_runs_in_one_batch_with_its_own_thresholds(held):
    app = build_app(held, Limits(batch_size=4))
    with TestClient(app) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(_post, client)
        assert held.started.wait(5)
        others = [pool.submit(_post, client, threshold) for threshold in (0.7, 0.1, 0.95, 0.6, 0.2)]
        _wait_until(lambda: _in_flight(client) == 6)
        held.goes.set()
        counts = [len(reply.result().json()["detections"]) for reply in (first, *others)]
    assert counts == [2, 1, 2, 0, 1, 2]
    assert held.batches == [1, 4, 1]


def test_workers_run_at_once(held):
    with (
        TestClient(build_app(held, Limits(workers=2))) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        replies = [pool.submit(_post, client) for _ in range(3)]
        _wait_until(lambda: len(held.batches) == 2)  # before either has ended
        held.goes.set()
        assert [reply.result().status_code for reply in replies] == [200] * 3
    assert held.batches in ([1, 1, 1], [1, 2], [2, 1])  # the third may have come in time


def test_an_incomplete_batch_waits_for_more(held):
    held.goes.set()
    app = build_app(held, Limits(batch_size=2, batch_wait=5.0))
    with TestClient(app) as client, ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(_post, client) for _ in range(2)]
        assert [reply.result().status_code for reply in replies] == [200, 200]
    assert held.batches == [2]


def test_more_than_may_wait_are_told_to_come_again(held):
    with (
        TestClient(build_app(held, Limits(max_requests=2))) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        taken = [pool.submit(_post, client) for _ in range(2)]
        _wait_until(lambda: _in_flight(client) == 2)
        refused = _post(client)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200
        held.goes.set()
        assert [reply.result().status_code for reply in taken] == [200, 200]
        assert _post(client).status_code == 200


def test_who_waits_too_long_is_told_and_costs_no_pass(held):
    with TestClient(build_app(held, Limits(seconds=0.2))) as client, ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(_post, client)]
        assert held.started.wait(10)  # else both might be one batch
        replies.append(pool.submit(_post, client))
        assert [reply.result().status_code for reply in replies] == [503, 503]
        held.goes.set()
        assert _post(client).status_code == 200
    assert held.batches == [1, 1]  # the second had left before its batch


def test_a_network_that_fails_ends_its_batch_only(held):
    held.fails = True
    held.goes.set()
    with TestClient(build_app(held), raise_server_exceptions=False) as client:
        reply = _post(client)
        assert (reply.status_code, reply.json().keys()) == (500, {"error"})
        held.fails = False
        assert _post(client).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_bytes", 0),
        ("batch_size", 0),
        ("workers", 0),
        ("seconds", 0.0),
        ("seconds", float("nan")),
        ("batch_wait", -1.0),
    ],
)
def test_limits_have_ranges(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})
