import json
from typing import Any

import pytest

from addon.protocol.last_event import last_event
from addon.protocol.sse import Decoder, Event
from store.errors import GatewayError, InvalidToken, ProjectInactive, QuotaExhausted, TokenInactive

ID = "01890000-0000-7000-8000-000000000000"

REVOKED = {
    "message": "The token has been revoked.",
    "type": "authentication_error",
    "param": None,
    "code": "token_inactive",
}


def read(endpoint: str, error: GatewayError) -> tuple[bytes, Any]:
    """Return the type and the data of the only event on the wire."""
    ((kind, data, _),) = Decoder().feed(last_event(endpoint, error, ID))
    return kind, json.loads(data)


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions", "/v1/audio/speech", "/v1/x"])
def test_of_most_endpoints_it_is_an_object_with_an_error(endpoint: str) -> None:
    assert read(endpoint, TokenInactive()) == (b"message", {"error": REVOKED})


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/responses/{id}"])
def test_of_responses_it_is_an_error_event_that_openais_sdk_and_others_read(endpoint: str) -> None:
    kind, data = read(endpoint, TokenInactive())
    assert kind == b"error"
    assert data.pop("error") == REVOKED  # read by the SDK
    assert data == {  # as it is documented
        "type": "error",
        "code": "token_inactive",
        "message": "The token has been revoked.",
        "param": None,
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TokenInactive(), "authentication_error"),
        (ProjectInactive(), "permission_error"),
        (QuotaExhausted("Nothing is left."), "rate_limit_error"),
        (GatewayError(), "api_error"),
    ],
)
def test_of_messages_it_is_an_error_event_of_a_type_that_anthropic_documents(error: GatewayError, kind: str) -> None:
    assert read("/v1/messages", error) == (
        b"error",
        {
            "type": "error",
            "error": {"type": kind, "message": error.message, "code": error.code},
            "request_id": ID,
        },
    )


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_message_of_several_lines_stays_one_event(endpoint: str) -> None:
    events = [*Decoder().feed(last_event(endpoint, InvalidToken("One line.\r\n\r\nAnother."), ID))]
    assert len(events) == 1
    assert isinstance(events[0], Event)
    assert b"One line" in events[0].data
