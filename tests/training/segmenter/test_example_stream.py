from __future__ import annotations

import threading
import time

import pytest
import torch

from labels4free.training.segmenter.example_stream import ExampleStream


@pytest.fixture
def stream():
    stream = ExampleStream(torch.device("cpu"))
    yield stream
    stream.close()


def test_examples_come_in_order(stream):
    def make(number):
        time.sleep(0.001 * (number % 3))
        return number

    assert [stream.batch(make, start, 3, 100) for start in (0, 3, 6)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_few_batches_are_made_ahead_but_none_beyond_the_limit(stream):
    made = []

    def make(number):
        made.append(number)
        return number

    stream.batch(make, 0, 2, 100)
    stream._pool.submit(int).result()
    assert made == [0, 1, 2, 3, 4, 5]
    stream.batch(make, 2, 2, 7)
    stream._pool.submit(int).result()
    assert made == [0, 1, 2, 3, 4, 5, 6]


def test_what_another_maker_prepared_is_forgotten(stream):
    stream.batch(str, 0, 2, 100)
    assert stream.batch(float, 2, 2, 100) == [2.0, 3.0]


def test_an_error_arrives(stream):
    def make(number):
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        stream.batch(make, 0, 2, 100)


def test_each_thread_computes_on_itself_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        stream = ExampleStream(torch.device("cpu"))
        assert stream.batch(lambda _: torch.get_num_threads(), 0, 2, 2) == [1, 1]
        assert torch.get_num_threads() == 2
        stream.close()
    finally:
        torch.set_num_threads(before)


def test_closing_ends_the_threads():
    stream = ExampleStream(torch.device("cpu"))
    stream.batch(int, 0, 2, 100)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("example")]
