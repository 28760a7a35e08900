"""openapi.yaml says exactly what is served, and what is served says what openapi.yaml does."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import asyncpg
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.engine.run import Trigger
from tests.web.contract import contract, followed
from tests.web.given import ADMIN, Admin, admin, delivery

_JOB = {"jobType": "reminder", "jobName": "goalDeadlines"}


async def test_contract_and_routes_name_the_same_operations(pool: asyncpg.Pool) -> None:
    validate(contract())
    written = {
        (method.upper(), path)
        for path, item in contract()["paths"].items()
        for method in item
        if method in {"get", "post", "delete"}
    }
    async with admin(pool) as given:
        assert given.client.app is not None
        served = {
            (route.method, route.resource.canonical)
            for route in given.client.app.router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
    assert served == written


async def _ask(given: Admin, method: str, pattern: str, path: str, expected: int, **more: Any) -> Any:
    answer = await given.client.request(method, path, headers=ADMIN, **more)
    assert answer.status == expected, (path, await answer.text())
    described = followed(contract()["paths"][pattern][method.lower()]["responses"][str(expected)])["content"]
    assert answer.content_type in described
    if answer.content_type != "application/json":
        return await answer.text()
    schema = {**described["application/json"]["schema"], "components": contract()["components"]}
    body = await answer.json()
    errors = [e.message for e in Draft202012Validator(schema).iter_errors(body)]
    assert not errors, (path, errors)
    return body


async def test_every_answer_has_the_shape_that_the_contract_promises(pool: asyncpg.Pool) -> None:
    async with admin(pool) as given:
        run = await given.ledger.request("reminder.goalDeadlines", Trigger.MANUAL, None, {})
        message = await delivery(pool)
        await pool.execute(
            "INSERT INTO service.notification"
            " (delivery_id, user_id, type, title, message, visible_from, expires_at)"
            " VALUES ($1, 'u1', 'goal_deadline', 'T', 'M', '2020-01-01', now() + interval '1 day')",
            message,
        )

        async def ask(method: str, pattern: str, expected: int, path: str = "", **more: Any) -> Any:
            return await _ask(given, method, pattern, path or pattern, expected, **more)

        jobs = "/api/admin/jobs"
        for word in ("status", "health", "statistics"):
            await ask("GET", f"{jobs}/{word}", 200)
        await ask("POST", f"{jobs}/run", 200, json=_JOB)
        await ask("POST", f"{jobs}/run", 202, json=_JOB | {"wait": False})
        await ask("POST", f"{jobs}/run", 404, json=_JOB | {"jobName": "x"})
        await ask("POST", f"{jobs}/run", 400, json={})
        given.runner.busy = True
        await ask("POST", f"{jobs}/run", 409, json=_JOB)
        given.runner.busy = False
        given.runner.result = replace(given.runner.result, state="failed")
        await ask("POST", f"{jobs}/run", 500, json=_JOB)
        await ask("POST", f"{jobs}/restart", 200, json={"jobType": "reminder"})
        await ask("POST", f"{jobs}/restart", 404, json={"jobType": "x"})
        once = await ask("POST", f"{jobs}/schedule", 201, json=_JOB | {"delayMs": 60000})
        await ask("POST", f"{jobs}/schedule", 400, json=_JOB | {"delayMs": 2592000001})
        await ask("DELETE", f"{jobs}/schedule/{{id}}", 200, f"{jobs}/schedule/{once['id']}")
        await ask("DELETE", f"{jobs}/schedule/{{id}}", 404, f"{jobs}/schedule/{once['id']}")
        here = f"{jobs}/reminder/goalDeadlines"
        await ask("POST", f"{jobs}/{{type}}/{{name}}/pause", 200, f"{here}/pause", json={"reason": "holiday"})
        status = await ask("GET", f"{jobs}/status", 200)
        assert status["jobs"]["reminder"]["jobs"]["goalDeadlines"]["pausedReason"] == "holiday"
        await ask("POST", f"{jobs}/{{type}}/{{name}}/resume", 200, f"{here}/resume")
        history = await ask("GET", f"{jobs}/history", 200, f"{jobs}/history?jobType=reminder&limit=1")
        assert history["data"][0]["id"] == history["next"] == once["id"]
        await ask("GET", f"{jobs}/history", 400, f"{jobs}/history?limit=x")
        await ask("GET", "/api/admin/runs/{id}", 200, f"/api/admin/runs/{run.id}")
        await ask("GET", "/api/admin/runs/{id}", 404, "/api/admin/runs/99999999999999999999")
        await ask("POST", "/api/admin/runs/{id}/cancel", 202, f"/api/admin/runs/{run.id}/cancel")
        await ask("POST", "/api/admin/runs/{id}/cancel", 409, f"/api/admin/runs/{run.id}/cancel")
        found = await ask("GET", "/api/admin/deliveries", 200, "/api/admin/deliveries?user=u1&state=planned")
        assert [row["id"] for row in found["data"]] == [message]
        await ask("GET", "/api/admin/deliveries/unconfirmed", 200)
        inbox = await ask("GET", "/api/users/{id}/notifications", 200, "/api/users/u1/notifications")
        assert inbox["unread"] == 1
        read = "/api/users/{id}/notifications/read"
        assert (await ask("POST", read, 200, "/api/users/u1/notifications/read"))["changed"] == 1
        assert (await ask("POST", read, 200, "/api/users/u1/notifications/read"))["changed"] == 0
        for path in ("/livez", "/readyz", "/startupz", "/metrics", "/api/openapi.yaml", "/pages.css"):
            await ask("GET", path, 200)
        for path in ("/console/console.css", "/console/sign-in"):
            await ask("GET", path, 200)
        for page in ("u", "preferences"):
            await ask("GET", f"/{page}/{{token}}", 200, f"/{page}/t")
            await ask("POST", f"/{page}/{{token}}", 200, f"/{page}/t")


def _told() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where something is described by a schema, the status (empty: it is sent), and the description."""
    for path, item in contract()["paths"].items():
        for method in item.keys() & {"get", "post", "delete"}:
            where, told = f"{method.upper()} {path}", item[method]
            for kind, content in followed(told.get("requestBody", {})).get("content", {}).items():
                yield f"{where} {kind}", "", content
            for one in [*item.get("parameters", []), *told.get("parameters", [])]:
                yield f"{where} {followed(one)['name']}", "", followed(one)
            for status, answer in told["responses"].items():
                for kind, content in followed(answer).get("content", {}).items():
                    if kind == "text/event-stream":
                        continue  # its schema is that of an event
                    yield f"{where} {status} {kind}", status, content


def test_every_error_has_an_example_and_every_example_is_what_its_schema_says() -> None:
    wrong = []
    for where, status, told in _told():
        examples = [one["value"] for one in told.get("examples", {}).values()]
        examples += [told["example"]] if "example" in told else []
        if where.endswith("/json") and status >= "400" and not examples:
            wrong.append(f"{where}: no example")
        schema = {**told["schema"], "components": contract()["components"]}
        for example in examples:
            wrong += [f"{where}: {e.message}" for e in Draft202012Validator(schema).iter_errors(example)]
    assert not wrong, "\n".join(wrong)
