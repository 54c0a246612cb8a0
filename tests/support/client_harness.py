"""Runs inside a client program's own Python: executes what the test sends, and answers in JSON.

Arguments: the file descriptor to read commands from, and the one to write answers to. A command is
a line ``{"id": n, "code": text, "values": {…}, "thread": bool}``; its answer is a line
``{"id": n, "value": …}`` with the value of the code's last expression, or
``{"id": n, "error": {…}}``. Code may call ``mark(name)``, which sends ``{"mark": name}``.
Standard output and standard error stay free for what the program itself prints.

It imports nothing of the tests, so that it runs in any installation of Ray.
"""

import ast
import builtins
import json
import linecache
import os
import queue
import sys
import threading

_answer_lock = threading.Lock()


def _send(message):
    data = (json.dumps(message, default=repr) + "\n").encode()
    with _answer_lock:
        while data:
            data = data[os.write(int(sys.argv[2]), data) :]


def _receive(descriptor, main):
    """Starts what is to run in a thread, and queues the rest for the main thread."""
    with os.fdopen(descriptor) as lines:
        for line in lines:
            command = json.loads(line)
            if command["thread"]:
                threading.Thread(target=_carry_out, args=(command,), daemon=True).start()
            else:
                main.put(command)
    main.put(None)


def _next(commands):
    """Waits for a command. A Ctrl-C that comes too late for a command is dropped."""
    while True:
        try:
            return commands.get()
        except KeyboardInterrupt:
            continue


def _evaluate(number, code, values):
    name = f"<command {number}>"
    # Ray reads the source of classes and functions that it is given.
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    tree = ast.parse(code, name)
    scope = sys.modules["__main__"].__dict__
    scope.update(values)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), scope)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), name, "eval"), scope)


def _describe(error):
    return {
        "type": type(error).__name__,
        "bases": [base.__name__ for base in type(error).__mro__],
        "text": str(error),
        "cause": repr(error.__cause__ or error.__context__),
    }


def _carry_out(command):
    number = command["id"]
    try:
        answer = {"id": number, "value": _evaluate(number, command["code"], command["values"])}
    except BaseException as error:  # the test wants to see KeyboardInterrupt and SystemExit too
        answer = {"id": number, "error": _describe(error)}
    _send(answer)


def _main():
    builtins.mark = lambda name: _send({"mark": name})
    commands = queue.Queue()
    threading.Thread(target=_receive, args=(int(sys.argv[1]), commands), daemon=True).start()
    while command := _next(commands):
        _carry_out(command)


_main()
