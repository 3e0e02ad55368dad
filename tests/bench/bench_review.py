"""What a review costs: an event against a bare INSERT, an image against its decoding, the fold.

Medians, the two sides in turn in the same run. pytest -n 0 --benchmark-enable -s
tests/bench/bench_review.py; the last one needs Chromium and measures what a person waits for, from
the key to the acknowledgement, and to the next photograph of 12 megapixels.
"""

import json
import sqlite3

import pytest

from almining.data.formats.files import decode
from almining.review.events import event
from almining.review.state import fold
from tests.bench.bench_ledger import compared
from tests.labs import browsing, need_chromium, serving
from tests.review import asked, logs
from tests.review.timing import large, measure, median

EVENTS = 1000


def test_fold(benchmark):
    log = logs.log(0, EVENTS)
    text = [json.dumps(one) for one in log]
    read = [None]

    def bare(_):
        read[0] = [json.loads(one) for one in text]

    compared(benchmark, lambda _: fold(log), bare, 30, f"fold {EVENTS} events, bare: read them")


def test_an_event_on_the_disk(benchmark, tmp_path):
    review = asked.reviewer(tmp_path / "run")
    name = next(iter(review.refresh().requests))
    bare = sqlite3.connect(tmp_path / "bare.sqlite", isolation_level=None)
    for pragma in ("journal_mode=TRUNCATE", "synchronous=FULL"):
        bare.execute(f"PRAGMA {pragma}")
    bare.execute("CREATE TABLE reviewed (number INTEGER PRIMARY KEY, content TEXT)")

    def insert(_):
        text = json.dumps(event(name, "look"))
        bare.execute("INSERT INTO reviewed VALUES (NULL, ?)", (text,))

    compared(benchmark, lambda _: review.take([event(name, "look")]), insert, 100, "one event")
    bare.close()


def test_a_photograph(benchmark, tmp_path):
    review = large(tmp_path / "large")
    name = next(iter(review.refresh().requests))
    review.open(name)
    path = tmp_path / "large" / "0.jpg"
    call = "an image of 12 megapixels made ready, bare: decoded"
    compared(benchmark, lambda _: review.open(name), lambda _: decode(path), 10, call)


def test_what_a_person_waits_for(benchmark, tmp_path):
    need_chromium()
    pytest.importorskip("playwright.sync_api")
    with serving(tmp_path) as lab, browsing() as browser:
        found = benchmark.pedantic(lambda: measure(browser.new_context(), lab), rounds=1)
    for name, times in found.items():
        benchmark.extra_info[name] = median(times)
        print(f"\n{name}: {median(times):.1f} ms, at most {max(times):.1f} ms")
