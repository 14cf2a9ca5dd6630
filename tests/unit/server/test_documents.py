"""Reading flow documents."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from flowherd_server.errors import Refused
from flowherd_server.mutations import flow_document
from flowherd_server.mutations.flow_document import decompress, read_document


def compressed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def test_a_document_is_kept_whole_besides_its_parts() -> None:
    whole = {"name": "f", "storage": {"type": "Command", "argv": ["true"]}, "reference_tasks": [], "__version__": "1"}
    document = read_document(whole)
    assert (document.whole, document.storage, document.tasks, document.schedule) == (whole, whole["storage"], [], None)


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ([], "serialized_flow"),
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "f", "tasks": {}}, "tasks"),
        ({"name": "f", "tasks": [{"name": "without slug"}]}, r"tasks\[0\].slug"),
        ({"name": "f", "parameters": ["x"]}, r"parameters\[0\]"),
        ({"name": "f", "storage": "here"}, "storage"),
        ({"name": "f", "run_config": {"labels": "a"}}, "run_config.labels"),
    ],
)
def test_a_malformed_document_is_refused_with_the_name_of_the_key(document: Any, key: str) -> None:
    with pytest.raises(Refused, match=key):
        read_document(document)


def test_a_compressed_document_is_the_same_document() -> None:
    assert decompress(compressed(json.dumps({"name": "f"}).encode())) == {"name": "f"}


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"no gzip").decode(), compressed(b"no json")])
def test_something_other_than_compressed_json_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="not base64"):
        decompress(text)


def test_a_small_text_that_would_take_much_memory_as_values_is_refused() -> None:
    text = compressed(b"[" + b"[]," * 4_000_000 + b"[]]")
    assert len(text) < 30_000
    with pytest.raises(Refused, match="more than 1000000 values"):
        decompress(text)


def test_a_small_text_that_decompresses_to_a_huge_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_document, "MAX_DOCUMENT_BYTES", 10_000)
    with pytest.raises(Refused, match="larger than"):
        decompress(compressed(b'"' + b"a" * 1_000_000 + b'"'))
