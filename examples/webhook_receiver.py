"""A receiver of Stenolog's webhooks: checks sender, age and duplicates of a request, and prints its event.

    WEBHOOK_SECRET=whsec_… uvicorn webhook_receiver:app --app-dir examples --port 9000

Subscribe it, by plain HTTP on this machine only with STENOLOG_WEBHOOK_ALLOW_PRIVATE=true on edge and projections:

    curl -d '{"url": "http://127.0.0.1:9000/", "secret": "'$WEBHOOK_SECRET'"}' http://127.0.0.1:8000/v1/webhooks
"""
# ruff: noqa: INP001, T201

import base64
import hashlib
import hmac
import json
import os
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TOLERANCE_S = 300  # older ones may be replayed by an eavesdropper
KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
seen: dict[str, None] = {}  # a database in real life


async def receive(request: Request) -> Response:
    """Answers 2xx once the event is safe: Stenolog then never sends it again, but for rare failures."""
    body = await request.body()
    event_id, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    given = request.headers.get("webhook-signature", "").split(" ")  # several while a secret is changed
    is_ours = any(hmac.compare_digest(expected.encode(), one.encode()) for one in given)
    if not is_ours or abs(time.time() - int(timestamp)) > TOLERANCE_S:
        return Response(status_code=401)
    if event_id not in seen:
        seen[event_id] = None
        event = json.loads(body)
        print(event["type"], event["timestamp"], event["data"].get("status", ""), flush=True)
    return Response(status_code=204)


app = Starlette(routes=[Route("/", receive, methods=["POST"])])
