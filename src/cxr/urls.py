"""The URLs in a message or an output: shown without their credentials."""

import re

HIDDEN = "***"

# user:password@ before the host. A password may hold "@" and, where its owner forgot to write %2F,
# "/"; digits after the colon are a port, not a password.
USER = re.compile(r"([A-Za-z][\w+.-]*://)(?:[^\s/?#:@]*:(?!\d+(?:[/?#\s]|$))\S*@|[^\s/?#]*@)")
# The values in a query: a signed URL has its signature there.
QUERY = re.compile(r"[A-Za-z][\w+.-]*://[^\s?#]*\?[^\s#]*")
VALUE = re.compile(r"=[^&;\s'\")\]>]+")


def public(text: object) -> str:
    """Return ``text`` with the credentials of every URL in it replaced by ``***``.

    User name and password go, and the values of a query (``?token=***``). What follows a ``#`` is
    never sent to a server, and stays.

    Args:
        text: a URL, a message that may quote some, or an exception.
    """
    without_user = USER.sub(rf"\1{HIDDEN}@", str(text))
    return QUERY.sub(lambda url: VALUE.sub(f"={HIDDEN}", url[0]), without_user)
