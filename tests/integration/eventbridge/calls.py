"""Which operations of AWS a command asks for, and with what."""

from typing import Any

from stenolog.operations.aws.access import Access

Call = tuple[str, dict[str, Any]]


class Watched(Access):
    """Clients whose calls are noted as (IAM action, parameters), in order."""

    def __init__(self, url: str) -> None:
        super().__init__(region="us-east-1", endpoint_url=url, overrule=True)
        self.calls: list[Call] = []

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 ships no types
        """As the commands get it, watched."""
        made = super().client(service)

        def note(params: dict[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401
            self.calls.append((f"{service}:{model.name}", params))

        made.meta.events.register("provide-client-params", note)
        return made

    def actions(self, *, writing: bool = False) -> list[str]:
        """The actions, in order; only those that change something, if `writing`."""
        names = [name for name, _ in self.calls]
        return [name for name in names if not writing or not name.split(":")[1].startswith(("Get", "Describe", "List"))]
