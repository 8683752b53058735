"""URLs without their credentials: in messages that quote them, and nothing else is changed."""

import pytest

from cxr import urls


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:pass@host:5000/a", "http://***@host:5000/a"),
        ("https://token@host/a.zip", "https://***@host/a.zip"),
        ("http://me:p@ss@host", "http://***@host"),
        ("postgresql+psycopg2://me:p/a?s#s@host/db", "postgresql+psycopg2://***@host/db"),
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("https://host/a.zip?X-Sig=abc%3D&expires=9", "https://host/a.zip?X-Sig=***&expires=***"),
        ("https://me:pass@host/a?key=b#part", "https://***@host/a?key=***#part"),
    ],
)
def test_credentials_are_hidden(url, shown):
    assert urls.public(url) == shown
    assert urls.public(f"cannot reach '{url}' (timeout)") == f"cannot reach '{shown}' (timeout)"
    assert urls.public(urls.public(url)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "no URL, but me@example.org and a: b",
        "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=systems",
        "http://host:5000 mail me@example.org",
        "sqlite:////home/me/mlflow.db",
        "https://host/a/b.zip?raw",
        "[SQL: INSERT INTO x (a) VALUES (?)] and a = b",
    ],
)
def test_everything_else_stays(text):
    assert urls.public(text) == text


def test_an_exception_is_shown_by_its_message():
    assert urls.public(OSError("no http://a:b@host")) == "no http://***@host"
