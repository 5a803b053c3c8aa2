"""A server that runs its tools as tasks, without a transport: of the tasks extension, or of revision 2025-11-25.

A task goes one step further with each request for its state, so that no test waits for a clock. The standard library
alone: tests/support/servers/tasks.py serves it over stdio, and ``respond`` over HTTP.
"""

import itertools
import json
from typing import Any

EXTENSION = "io.modelcontextprotocol/tasks"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
FORM = {
    "mode": "form",
    "message": "Whose count is it?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
SCHEMA = {
    "type": "object",
    "properties": {
        "to": {"type": "integer"},
        "ask": {"type": "boolean"},
        "fail": {"type": "boolean"},
        "forget": {"type": "boolean"},
    },
}
Message = dict[str, Any]


class TaskLogic:
    """``era`` is "modern" or "legacy". ``ttl`` is in milliseconds. ``record`` has the methods that were called."""

    def __init__(self, era: str, *, ttl: int | None = None, poll: int = 1, note: str = "") -> None:
        self.is_modern = era == "modern"
        self.ttl = ttl
        self.poll = poll
        self.note = note
        self.record: list[str] = []
        self.tasks: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Any] = {}  # requests for a result, by the task's id
        self._asked: dict[str, str] = {}  # our questions: the task's id, by the question's

    def handle(self, message: Message) -> list[Message]:
        """The messages to send for one that arrived: its answer, perhaps a question, perhaps a result that was due."""
        method = message.get("method", "")
        if not method:
            return self._take_answer(message)
        if "id" not in message:
            return []
        self.record.append(method)
        params = message.get("params") or {}
        outcome = self._answer(method, params, message)
        if outcome is None:
            return self._ask(params["taskId"])
        answers = [{"jsonrpc": "2.0", "id": message["id"], **outcome}]
        return answers + [due for task_id in list(self._waiting) for due in self._results_due(task_id)]

    def respond(self, message: Message, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """The HTTP response to a message: for a ``ScriptedHttpServer``. Questions are not sent this way."""
        if message.get("method", "").startswith("tasks/") and headers.get("mcp-name") != message["params"]["taskId"]:
            answers = [{"jsonrpc": "2.0", "id": message["id"], **self._error(-32001, "no Mcp-Name")}]
        else:
            answers = self.handle(message)
        if "id" not in message:
            return 202, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(answers[0]).encode()

    def _answer(self, method: str, params: Message, message: Message) -> Message | None:
        match method:
            case "server/discover" if self.is_modern:
                capabilities = {"tools": {}, "extensions": {EXTENSION: {}}}
                info = {"io.modelcontextprotocol/serverInfo": {"name": "tasks", "version": "1"}}
                return self._result(
                    supportedVersions=["2026-07-28"],
                    capabilities=capabilities,
                    _meta=info,
                    ttlMs=0,
                    cacheScope="private",
                )
            case "initialize" if not self.is_modern:
                tasks = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
                info = {"name": "tasks", "version": "1"}
                return self._result(
                    protocolVersion="2025-11-25", capabilities={"tools": {}, "tasks": tasks}, serverInfo=info
                )
            case "tools/list":
                return self._result(
                    tools=self._tools(), **({"ttlMs": 0, "cacheScope": "private"} if self.is_modern else {})
                )
            case "tools/call":
                return self._call(params)
            case str() if method.startswith("tasks/"):
                return self._answer_about_task(method, params, message)
        return self._error(-32601, f"no {method}")

    def _tools(self) -> list[Message]:
        tools: list[Message] = [{"name": name, "inputSchema": SCHEMA} for name in ("count", "must", "plain")]
        if not self.is_modern:
            tools[0]["execution"], tools[1]["execution"] = {"taskSupport": "optional"}, {"taskSupport": "required"}
        return tools

    def _call(self, params: Message) -> Message:
        name, arguments = params["name"], params.get("arguments") or {}
        if self.is_modern and EXTENSION not in params["_meta"][CAPABILITIES].get("extensions", {}):
            return self._error(-32021, "Missing required client capability")
        if not self.is_modern and "task" not in params:
            if name == "must":
                return self._error(-32601, "task augmentation is required")
            return self._result(content=[{"type": "text", "text": "at once"}])
        if name == "plain":
            return self._result(content=[{"type": "text", "text": "at once"}])
        task_id = f"task-{next(self._numbers)}"
        self.tasks[task_id] = {"to": 3, "done": 0, "name": "", "status": "working", **arguments}
        if self.is_modern:
            return self._result("task", **self._describe(task_id))
        meta = {"io.modelcontextprotocol/model-immediate-response": self.note} if self.note else {}
        return self._result(task=self._describe(task_id), _meta=meta)

    def _answer_about_task(self, method: str, params: Message, message: Message) -> Message | None:
        task_id = params["taskId"]
        task = self.tasks.get(task_id)
        if task is None:
            return self._error(-32602, "Task not found")
        if method == "tasks/get":
            self._advance(task_id, task)
            if task_id not in self.tasks:
                return self._error(-32602, "Task not found")
            return self._result(**self._describe(task_id))
        if method == "tasks/cancel":
            if task["status"] not in {"working", "input_required"}:
                return self._error(-32602, f"the task is {task['status']}")
            task["status"] = "cancelled"
            return self._result(**({} if self.is_modern else self._describe(task_id)))
        if method == "tasks/update" and self.is_modern:
            answer = params["inputResponses"]["name"]
            task["name"] = answer["content"]["name"] if answer["action"] == "accept" else answer["action"]
            return self._result()
        if method == "tasks/result" and not self.is_modern:
            if task["status"] in {"completed", "failed", "cancelled"}:
                return self._outcome(task)
            self._waiting[task_id] = message["id"]
            return None
        return self._error(-32601, f"no {method}")

    def _advance(self, task_id: str, task: Message) -> None:
        if task["status"] in {"completed", "failed", "cancelled"}:
            return
        task["done"] += 1
        task["status"] = "input_required" if task.get("ask") and not task["name"] else "working"
        if task.get("forget") and task["done"] > 1:
            del self.tasks[task_id]
        elif task["status"] == "working" and task["done"] >= task["to"]:
            task["status"] = "failed" if task.get("fail") else "completed"

    def _describe(self, task_id: str) -> Message:
        task = self.tasks[task_id]
        when, ms = "2026-11-30T10:00:00Z", "Ms" if self.is_modern else ""
        state: Message = {
            "taskId": task_id, "status": task["status"], "createdAt": when, "lastUpdatedAt": when,
            "statusMessage": f"{task['done']} of {task['to']}", f"ttl{ms}": self.ttl,
        }  # fmt: skip
        if self.poll >= 0:
            state[f"pollInterval{ms}"] = self.poll
        if self.is_modern and task["status"] == "input_required":
            state["inputRequests"] = {"name": {"method": "elicitation/create", "params": FORM}}
        if self.is_modern and task["status"] == "completed":
            state["result"] = self._outcome(task)["result"]
        if self.is_modern and task["status"] == "failed":
            state["error"] = {"code": -32603, "message": "no more numbers"}
        return state

    def _outcome(self, task: Message) -> Message:
        if task["status"] == "failed":
            return self._error(-32603, "no more numbers")
        text = f"counted to {task['to']}" + f" for {task['name']}" * bool(task["name"])
        return {"result": {"content": [{"type": "text", "text": text}], "isError": False}}

    def _results_due(self, task_id: str) -> list[Message]:
        if self.tasks[task_id]["status"] not in {"completed", "failed", "cancelled"}:
            return []
        return [{"jsonrpc": "2.0", "id": self._waiting.pop(task_id), **self._outcome(self.tasks[task_id])}]

    def _ask(self, task_id: str) -> list[Message]:
        """The question of a task for whose result somebody waits; in revision 2025-11-25 it is a request of its own."""
        question = f"question-{task_id}"
        if self.tasks[task_id]["status"] != "input_required" or question in self._asked:
            return []
        self._asked[question] = task_id
        meta = {"io.modelcontextprotocol/related-task": {"taskId": task_id}}
        return [{"jsonrpc": "2.0", "id": question, "method": "elicitation/create", "params": {**FORM, "_meta": meta}}]

    def _take_answer(self, message: Message) -> list[Message]:
        task = self.tasks[self._asked[message["id"]]]
        answer = message["result"]
        task["name"] = answer["content"]["name"] if answer["action"] == "accept" else answer["action"]
        return []

    def _result(self, kind: str = "complete", **fields: Any) -> Message:
        return {"result": {**({"resultType": kind} if self.is_modern else {}), **fields}}

    def _error(self, code: int, text: str) -> Message:
        return {"error": {"code": code, "message": text}}
