"""Celery's result backend on Redis: results are stored in a transaction with a PUBLISH, and waited for by subscription."""

import threading
import time

import celery
from celery import Celery, states, uuid
from checks import PATIENCE, ask, equal, eventually, host, port, run, sizes_are_spread

app = Celery("suite", broker="memory://", backend=f"redis://{host}:{port}/0")
app.conf.result_backend_transport_options = {"retry_policy": {"timeout": 5.0, "max_retries": 20, "interval_step": 0.05}}
app.conf.redis_retry_on_timeout = True


def a_result_is_stored_and_read():
    task = uuid()
    app.backend.store_result(task, {"answer": 42}, states.SUCCESS)
    result = app.AsyncResult(task)
    equal(result.state, states.SUCCESS)
    equal(result.get(timeout=PATIENCE), {"answer": 42})


def many_results_are_on_every_server():
    tasks = [uuid() for _ in range(200)]
    for number, task in enumerate(tasks):
        app.backend.store_result(task, number, states.SUCCESS)
    sizes_are_spread()
    found = dict(app.backend.get_many(tasks, timeout=PATIENCE))
    equal([found[task]["result"] for task in tasks], list(range(200)))


def later(action, *arguments):
    thread = threading.Timer(0.2, action, arguments)
    thread.daemon = True
    thread.start()


def a_result_is_waited_for():
    task = uuid()
    later(app.backend.store_result, task, "done", states.SUCCESS)
    begin = time.monotonic()
    equal(app.AsyncResult(task).get(timeout=PATIENCE), "done")
    assert 0.1 < time.monotonic() - begin < PATIENCE / 2, "it was not waited for by subscription"


def a_group_is_waited_for():
    results = [app.AsyncResult(uuid()) for _ in range(20)]
    group = celery.result.ResultSet(results, app=app)

    def finish():
        for number, result in enumerate(results):
            app.backend.store_result(result.id, number, states.SUCCESS)

    later(finish)
    equal(group.join_native(timeout=PATIENCE), list(range(20)))


def a_failure_is_raised():
    task = uuid()
    app.backend.mark_as_failure(task, ValueError("wrong"))
    try:
        raise AssertionError(app.AsyncResult(task).get(timeout=PATIENCE))
    except ValueError as error:
        equal(str(error), "wrong")


def a_result_is_forgotten():
    task = uuid()
    app.backend.store_result(task, 1, states.SUCCESS)
    app.AsyncResult(task).forget()
    equal(app.AsyncResult(task).state, states.PENDING)


def a_server_is_lost_and_comes_back():
    ask("kill")
    ask("start")

    def stored():
        task = uuid()
        app.backend.store_result(task, "again", states.SUCCESS)
        return app.AsyncResult(task).get(timeout=2) == "again"

    for _ in range(20):
        eventually("a result", stored)
    a_result_is_waited_for()


run("celery", celery.__version__, [
    a_result_is_stored_and_read, many_results_are_on_every_server, a_result_is_waited_for, a_group_is_waited_for,
    a_failure_is_raised, a_result_is_forgotten, a_server_is_lost_and_comes_back,
])
