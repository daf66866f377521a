"""The role that each route requires. A route that is not here is refused."""

from __future__ import annotations

from service.api.auth.caller import Caller
from service.api.problems import Problem

PUBLIC = "public"
"""No credential is required, and none is looked at."""
ANY = "any"
"""Any credential but a ticket."""
WATCH = "watch"
FETCH = "fetch"
ATTEMPT = "attempt"
"""The token of the job's running attempt, also with AUTH=none."""
READ_OR_WORK = "read or work"

ROUTES = {
    "GET /": PUBLIC,
    "GET /web/<path:name>": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/<path:name>": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": "ops",
    "GET /workers": "ops",
    "POST /workers/<path:worker>/drain": "ops",
    "POST /workers/<path:worker>/resume": "ops",
    "POST /queues/<path:queue>/pause": "ops",
    "POST /queues/<path:queue>/resume": "ops",
    "POST /types/<path:type_name>/pause": "ops",
    "POST /types/<path:type_name>/resume": "ops",
    "GET /types": READ_OR_WORK,
    "GET /jobs": "read",
    "GET /jobs:counts": "read",
    "GET /jobs/<job_id>": "read",
    "GET /jobs/<job_id>/events": "read",
    "GET /jobs/<job_id>/artifacts/<path:name>": "read",
    "GET /events": "read",
    "GET /groups/<group:group>": "read",
    "PUT /groups/<group:group>": "submit",
    "POST /groups/<path:group>/cancel": "cancel",
    "POST /groups/<path:group>/retry": "submit",
    "POST /jobs": "submit",
    "POST /jobs:batch": "submit",
    "POST /jobs:cancel": "cancel",
    "POST /jobs:retry": "submit",
    "POST /jobs:delete": "cancel",
    "POST /jobs/<job_id>/retry": "submit",
    "POST /uploads": "submit",
    "PUT /uploads/<filename:name>": "submit",
    "GET /uploads/<upload_id>": "submit",
    "PATCH /uploads/<upload_id>": "submit",
    "POST /uploads/<upload_id>": "submit",
    "DELETE /uploads/<upload_id>": "submit",
    "POST /jobs/<job_id>/cancel": "cancel",
    "POST /jobs/<job_id>/messages": "cancel",
    "DELETE /jobs/<job_id>": "cancel",
    "PUT /types/<type_name>": "work",
    "POST /claims": "work",
    "POST /jobs/<job_id>/reports": ATTEMPT,
    "PUT /jobs/<job_id>/artifacts/<path:name>": ATTEMPT,
    "POST /jobs/<job_id>/end": ATTEMPT,
    "GET /webhooks": "read",
    "GET /webhooks/<webhook_name>": "read",
    "GET /webhooks/<webhook_name>/deliveries": "read",
    # And `read`: all that it reads is sent there (service/api/webhooks.py).
    "PUT /webhooks/<webhook_name>": "submit",
    "DELETE /webhooks/<webhook_name>": "submit",
    "POST /webhooks/<webhook_name>/secret": "submit",
    "POST /webhooks/<webhook_name>/redeliver": "submit",
    "POST /tickets": "read",
    "POST /session": ANY,
    "GET /session": ANY,
    # Signing out must work when the session has expired, too.
    "DELETE /session": PUBLIC,
}

TICKET_ROUTES = {
    "GET /jobs": WATCH,
    "GET /jobs/<job_id>": WATCH,
    "GET /jobs/<job_id>/events": WATCH,
    "GET /events": WATCH,
    "GET /groups/<group:group>": WATCH,
    "GET /jobs/<job_id>/artifacts/<path:name>": FETCH,
}
"""What a ticket opens: these are its roles, beside which it has none."""


def check_role(caller: Caller, route: str) -> None:
    """Check that the caller may use the route. Raises Problem (403)."""
    if caller.kind == "ticket":
        if TICKET_ROUTES.get(route) not in caller.roles:
            raise Problem(403, "a ticket opens nothing but the jobs that it was made for")
        return
    role = ROUTES.get(route)
    if caller.kind == "attempt":
        if role != ATTEMPT:
            raise Problem(403, "the token of an attempt is only for reporting on its job and ending it")
        return
    if role == ATTEMPT:
        raise Problem(
            401,
            "this needs the token that came with the job: send `Authorization: Bearer <token>`",
            headers={"WWW-Authenticate": 'Bearer realm="headway"'},
        )
    if role != ANY and not (role and caller.roles & set(role.split(" or "))):
        raise Problem(403, f"this credential does not have the role {role!r}")
