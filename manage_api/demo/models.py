"""`/v1/models`: a fixed list. One model's name has colons (fine-tuned), another's a slash (`%2F` in its path)."""

from http import HTTPStatus
from typing import Any

from manage_api.demo.errors import ApiError
from manage_api.demo.handler import ApiHandler

CREATED = 1735689600  # 2025-01-01
FINE_TUNED = "ft:"
OWNERS = {
    "gpt-4o": "system",
    "gpt-4o-mini": "system",
    "gpt-realtime": "system",
    "text-embedding-3-small": "system",
    "demo/with-slash": "demo",
    "ft:gpt-4o-mini:demo::abc123": "demo",
}


class Models(ApiHandler):
    """The list of models."""

    def get(self) -> None:
        """List the models."""
        self.write({"object": "list", "data": [_model(model_id) for model_id in OWNERS]})


class OneModel(ApiHandler):
    """One model."""

    def get(self, model_id: str) -> None:
        """Show the model."""
        if model_id not in OWNERS:
            raise ApiError(
                HTTPStatus.NOT_FOUND,
                f"The model '{model_id}' does not exist",
                code="model_not_found",
                param="model",
            )
        self.write(_model(model_id))

    def delete(self, model_id: str) -> None:
        """Confirm the deletion of any fine-tuned model. The list does not change."""
        if not model_id.startswith(FINE_TUNED):
            raise ApiError(HTTPStatus.FORBIDDEN, "You can only delete fine-tuned models.", param="model")
        self.write({"id": model_id, "object": "model", "deleted": True})


def _model(model_id: str) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": CREATED, "owned_by": OWNERS[model_id]}
