"""The protections of the key and the token, each with the change of the sources that removes it."""

from collections.abc import Callable

from support.attacks import canary
from support.attacks.canary import Run

type Change = tuple[str, str, str]
"""A file, a text in it, and the text without the protection."""

WITHOUT: dict[str, tuple[Callable[..., Run], list[Change]]] = {
    "the mask over the token": (
        canary.run_in_mitmweb,
        [("addon/authentication.py", "return _mask_scheme(value, credentials)", "return value")],
    ),
    "the mask over a subprotocol": (
        canary.run_in_mitmweb,
        [
            (
                "addon/authentication.py",
                "KEY_SUBPROTOCOL + MASK if is_key_subprotocol(name) else name",
                "name",
            )
        ],
    ),
    "the mask over x-api-key and its like": (
        canary.run_in_mitmweb,
        [
            (
                "addon/authentication.py",
                "credentials.keys.append(_bare(_text(value).strip()))\n    return MASK.encode()",
                "credentials.keys.append(_bare(_text(value).strip()))\n    return value",
            )
        ],
    ),
    "the mask over xi-api-key": (
        canary.run_in_mitmweb,
        [
            (
                "addon/authentication.py",
                "credentials.others.append(_bare(_text(value).strip()))\n    return MASK.encode()",
                "credentials.others.append(_bare(_text(value).strip()))\n    return value",
            )
        ],
    ),
    "the mask over a query": (
        canary.run_in_mitmweb,
        [
            (
                "addon/authentication.py",
                "parameter[:start] + MASKED_VALUE if is_token_value",
                "parameter if bool",
            )
        ],
    ),
    "the removal of x-api-key and its like": (
        canary.run_in_launcher,
        [("addon/forwarding.py", ', b"api-key", b"x-api-key", b"x-goog-api-key", b"xi-api-key"})', "})")],
    ),
    "the removal of a token in a query": (
        canary.run_in_launcher,
        [("addon/forwarding.py", "_without_tokens(target) if MASKED_VALUE in target else target", "target")],
    ),
    "the separation of a 401 from the flow": (
        canary.run_in_mitmweb,
        [("addon/rejection.py", "response.status_code == HTTPStatus.UNAUTHORIZED", "False")],
    ),
    "the redaction of the text of a 401": (
        canary.run_in_launcher,
        [("addon/rejection.py", "word if _WORD.fullmatch(word) and not self._quotes_key(word) else _WITHHELD", "word")],
    ),
    "the check of the code of a 401": (
        canary.run_in_launcher,
        [("addon/rejection.py", "_CODE.fullmatch(code) and not self._quotes_key(code)", "_CODE.fullmatch(code)")],
    ),
    "the check of the request id of a 401": (
        canary.run_in_launcher,
        [("addon/rejection.py", 'if self._quotes_key(exchange.upstream_request_id or ""):', "if False:")],
    ),
    "the copy of the request that gets the key": (
        canary.run_in_mitmweb,
        [("addon/forwarding.py", "keyed = _copy(request)", "keyed = request")],
    ),
    "the pin of the destination": (
        canary.run_in_mitmweb,
        [
            (
                "addon/reverse_mode.py",
                "return self._upstreams.get(",
                "return next(iter(self._upstreams.values())) or (",
            ),
            ("addon/forwarding.py", "return DestinationRefused()", "pass"),
        ],
    ),
    "the way of replays through the keyed layer": (
        canary.run_in_mitmweb,
        [("addon/patches/__init__.py", "    install.put_into_replays(exchanges, settings)", "    # nothing:")],
    ),
    "the redaction of the log": (
        canary.run_in_mitmweb,
        [("store/runtime/redaction.py", '_QUOTED_BYTES.sub("<bytes>", text)', "text")],
    ),
    "the ban on wire bytes, and their redaction": (
        canary.run_in_mitmdump,
        [
            ("addon/reverse_mode.py", '    "proxy_debug": False,', "    # nothing:"),
            ("store/runtime/redaction.py", '_QUOTED_BYTES.sub("<bytes>", text)', "text"),
        ],
    ),
    "the silenced logger of hpack": (
        canary.run_in_launcher,
        [("addon/serving/log_redaction.py", '    logging.getLogger("hpack").setLevel(logging.WARNING)\n', "")],
    ),
}
