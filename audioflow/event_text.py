"""What happened, in words, where it is worth a line of its own."""

from typing import Any

from audioflow.events import Event

UNITS = {"train": "epochs", "tune": "trials"}
"""What a job counts; the others count clips."""


def text_of(event: Event) -> str:
    """The text of a `note`, `verdict`, `retry`, `node` or `failed`; "" of all other kinds."""
    data = event.data
    match event.kind:
        case "note" | "verdict":
            return str(data["text"])
        case "retry":
            return f"{_again(data)}: {data['reason']}"
        case "node":
            told = {"joined": "has joined", "lost": "was lost"}[data["what"]]
            return f"node {event.name} {told}; {data['nodes']} are there"
        case "failed":
            return f"failed, and the others go on: {data['error']}"
    return ""


def _again(data: dict[str, Any]) -> str:
    if "workers" in data:
        workers, wanted = data["workers"], data["wanted"]
        number = f"{workers} of {wanted}" if workers < wanted else f"{workers}"
        number += " worker" if wanted == 1 else " workers"
        return f"training is begun again with {number} (attempt {data['tries'] + 1})"
    kind = "trial" if "trial" in data else "shard"
    return f"{kind} {data[kind]} is done again ({data['tries']}): its worker was lost"
