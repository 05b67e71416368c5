"""An application that shows orders to those whom policy lets see them. Run it with any ASGI server.

Who somebody is, its own login would say; here a table of test tokens stands for that.
"""

import json
import os

from bartizan import AsyncClient, Guard, Question

USERS = json.loads(os.environ.get("EXAMPLE_USERS", "{}"))
ORDERS = {"small": {"id": "small", "note": "call ann@mail.example"}, "large": {"id": "large", "note": "-"}}


async def orders(scope, receive, send):
    """Behind the guard: whoever comes here may see the order."""
    order = dict(ORDERS.get(scope["path"].removeprefix("/orders/"), {}))
    if scope.get("redact"):
        order.pop("note", None)
    await answer(send, 200 if order else 404, order)


async def answer(send, status, value):
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


def question(scope):
    """Who asks, as our login knows them, and for what; none where nobody is logged in."""
    headers = dict(scope["headers"])
    user = USERS.get(headers.get(b"authorization", b"").decode("latin1").removeprefix("Bearer "))
    if user is None or not scope["path"].startswith("/orders/"):
        return None
    return Question(("person", user), "void" if scope["method"] == "DELETE" else "view", ("order", scope["path"].removeprefix("/orders/")))


def redact(scope, _obligation):
    """Notes can hold personal data: they are left out."""
    scope["redact"] = True
    return True


client = AsyncClient(os.environ.get("BARTIZAN_URL", "http://127.0.0.1:8080"), os.environ.get("BARTIZAN_API_KEY", ""))
app = Guard(orders, client, question, obligations={"redact": redact}, open_paths={"/health"})
