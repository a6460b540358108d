"""All single-line changes of a Python source that the mutation benchmark knows, found in its syntax tree.

A change replaces one range of one line. What says nothing about behaviour is left alone: docstrings and all other
strings, f-strings, annotations, `__all__`, `if TYPE_CHECKING:`, `if __name__ == "__main__":`, the arguments of raised
errors and of calls that log, and two flags that only guard against a programmer's mistake (those of `@dataclass`, and
`strict` of `zip`).
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass, replace

OPERATORS = ("comparison turned", "constant moved", "branch dropped", "argument swapped", "sign flipped")
COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
}
SIGNS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
}
LOGGERS = re.compile(r"^_?(log|logger|logging|warnings|get_run_logger\(\)|get_logger\(.*\))$", re.IGNORECASE)
PATHS = re.compile(
    r"Path\(|(root|folder|path|home|dir|directory|parent|file|here|out|target|warehouse)s?\b", re.I
)
"""Left sides of `/` that are paths, as far as names tell; a path cannot be multiplied, so any test kills that."""
UNSWAPPED = {
    *("isinstance", "issubclass", "getattr", "hasattr", "setattr", "cast", "print"),
    *("min", "max", "minimum", "maximum", "logical_and", "logical_or", "array_equal", "gcd"),
}
"""Functions whose swapped arguments change nothing, or fail wherever they are run."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one line, and where the line is run."""

    file: str
    line: int
    start: int
    end: int
    """The replaced range of the line, in bytes."""
    text: str
    operator: str
    before: str
    after: str
    statement: tuple[int, int]
    """First and last line of the statement, or of its head where it has a body."""
    body: tuple[int, int] | None
    """Lines of the body of the function whose signature or decorators are changed."""
    at_import: bool
    """Whether the line is run when its module is imported, and not by calls of a function."""
    id: str = ""

    @property
    def package(self) -> str:
        """The package it counts for; modules in the root of `calig` count as one."""
        parts = self.file.split("/")
        return ".".join(parts[: 2 if parts[0] == "calig" and len(parts) > 2 else 1])

    def applied(self, source: str) -> str:
        """The source with the change made."""
        lines = source.split("\n")
        lines[self.line - 1] = _replaced(lines[self.line - 1], self.start, self.end, self.text)
        return "\n".join(lines)

    def changes(self, source: str) -> bool:
        """Whether the changed source compiles and differs in more than its layout."""
        changed = self.applied(source)
        try:
            compile(changed, self.file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
        return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))


def mutants(source: str, file: str) -> list[Mutant]:
    """All changes of a source, in the order of their places; each has an id that survives a shift of lines."""
    found = sorted(_Finder(source, file).found, key=lambda m: (m.line, m.start, m.end, m.text))
    seen: dict[str, int] = {}
    named = []
    for mutant in found:
        key = "\0".join((file, mutant.operator, mutant.before, mutant.after))
        seen[key] = seen.get(key, 0) + 1
        digest = hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()
        named.append(replace(mutant, id=digest[:8]))
    return named


def _replaced(line: str, start: int, end: int, text: str) -> str:
    raw = line.encode()
    return (raw[:start] + text.encode() + raw[end:]).decode()


@dataclass(frozen=True, slots=True)
class _Place:
    """What surrounds a node."""

    statement: tuple[int, int]
    body: tuple[int, int] | None = None
    at_import: bool = True


class _Finder:
    """Walks a tree and gathers changes."""

    def __init__(self, source: str, file: str) -> None:
        self.file = file
        self.lines = [line.encode() for line in source.split("\n")]
        self.found: list[Mutant] = []
        for statement in ast.parse(source).body:
            self._statement(statement, _Place((1, 1)))

    def _statement(self, node: ast.stmt, place: _Place) -> None:
        bodies = [body for name in ("body", "orelse", "finalbody") if (body := getattr(node, name, None))]
        handlers = [*getattr(node, "handlers", ()), *getattr(node, "cases", ())]
        inner = [body[0].lineno for body in bodies] + [_first_line(handler) for handler in handlers]
        last = max(node.lineno, min(inner) - 1) if inner else (node.end_lineno or node.lineno)
        place = replace(place, statement=(node.lineno, last))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            within = (node.body[0].lineno, node.end_lineno or node.lineno)
            for part in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
                if part is not None:
                    self._expression(part, replace(place, body=within))
            for statement in node.body:
                self._statement(statement, _Place((0, 0), None, False))
            return
        if isinstance(node, ast.ClassDef):
            for part in (*node.decorator_list, *(keyword.value for keyword in node.keywords)):
                if not ast.unparse(part).startswith("dataclass"):
                    self._expression(part, place)
        elif isinstance(node, ast.If) and _unseen(node.test):
            bodies = [node.orelse]
        elif isinstance(node, ast.Raise) or (isinstance(node, ast.Assign) and _assigns_all(node)):
            return
        else:
            self._whole(node, place)
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                    annotation = isinstance(node, ast.AnnAssign) and child is node.annotation
                    message = isinstance(node, ast.Assert) and child is node.msg
                    if not annotation and not message:
                        self._expression(child, place)
        for body in bodies:
            for statement in body:
                self._statement(statement, place)
        for handler in handlers:
            if isinstance(handler, ast.match_case) and handler.guard:
                line = handler.guard.lineno
                self._expression(handler.guard, replace(place, statement=(line, line)))
            for statement in handler.body:
                self._statement(statement, place)

    def _whole(self, node: ast.stmt, place: _Place) -> None:
        """Changes of statements: one is left out, or the branch it guards is."""
        if isinstance(node, ast.If | ast.While):
            self._add(node.test, "False", "branch dropped", place)
            if isinstance(node, ast.If):
                self._add(node.test, f"not ({self._text(node.test)})", "branch dropped", place)
        elif isinstance(node, ast.AugAssign):
            self._add(node, "pass", "branch dropped", place)
            sign = SIGNS.get(type(node.op))
            if sign and not _holds_text(node.value):
                self._between(node.target, node.value, sign[0] + "=", sign[1] + "=", "sign flipped", place)
        elif isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call) and not _logs(call):
                self._add(node, "pass", "branch dropped", place)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self._add(node, "pass", "branch dropped", place)

    def _expression(self, node: ast.AST, place: _Place) -> None:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and _logs(node)):
            return
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
            return
        if isinstance(node, ast.Lambda):
            place = replace(place, at_import=False)
        self._changes(node, place)
        flag = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip"
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.arguments):
                for default in (*child.defaults, *child.kw_defaults):
                    if default is not None:
                        self._expression(default, place)
            elif not (flag and isinstance(child, ast.keyword)):
                self._expression(child, place)

    def _changes(self, node: ast.AST, place: _Place) -> None:
        """Changes of an expression itself, those of its parts left out."""
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                self._between(left, right, *COMPARISONS[type(operator)], "comparison turned", place)
        elif isinstance(node, ast.Constant):
            moved = _moved(node.value)
            if moved is not None:
                self._add(node, moved, "constant moved", place)
        elif isinstance(node, ast.BoolOp):
            self._operands(node, place)
        elif isinstance(node, ast.IfExp):
            self._add(node.test, f"not ({self._text(node.test)})", "branch dropped", place)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                self._add(test, "True", "branch dropped", place)
        elif isinstance(node, ast.Call):
            self._call(node, place)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            self._at(node.lineno, node.col_offset, node.col_offset + 1, "+", "sign flipped", place)
        elif isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
            path = isinstance(node.op, ast.Div) and PATHS.search(ast.unparse(node.left))
            if not path and not _holds_text(node.left) and not _holds_text(node.right):
                self._between(node.left, node.right, *SIGNS[type(node.op)], "sign flipped", place)

    def _call(self, node: ast.Call, place: _Place) -> None:
        name = ast.unparse(node.func).rsplit(".", 1)[-1]
        if isinstance(node.func, ast.Name) and name in ("min", "max"):
            self._add(node.func, "max" if name == "min" else "min", "sign flipped", place)
        if name in UNSWAPPED or any(isinstance(argument, ast.Starred) for argument in node.args):
            return
        for first, second in zip(node.args, node.args[1:], strict=False):
            texts = self._text(first), self._text(second)
            if first.lineno == second.end_lineno and texts[0] != texts[1]:
                row = self.lines[first.lineno - 1]
                swapped = texts[1] + row[first.end_col_offset : second.col_offset].decode() + texts[0]
                start, end = first.col_offset, second.end_col_offset or 0
                self._at(first.lineno, start, end, swapped, "argument swapped", place)

    def _operands(self, node: ast.BoolOp, place: _Place) -> None:
        """Leave out the first operand of `and` or `or`, or the last."""
        if node.lineno != node.end_lineno:
            return
        word = "and" if isinstance(node.op, ast.And) else "or"
        row, start, end = self.lines[node.lineno - 1], node.col_offset, node.end_col_offset or 0
        first = self._token(node.values[0], node.values[1], word)
        last = self._token(node.values[-2], node.values[-1], word)
        if first and last:
            rest = row[first[2] : end].strip().decode()
            self._at(node.lineno, start, end, rest, "branch dropped", place)
            rest = row[start : last[1]].strip().decode()
            self._at(node.lineno, start, end, rest, "branch dropped", place)

    def _between(
        self, left: ast.AST, right: ast.AST, token: str, text: str, operator: str, place: _Place
    ) -> None:
        found = self._token(left, right, token)
        if found:
            self._at(*found, text, operator, place)

    def _token(self, left: ast.AST, right: ast.AST, token: str) -> tuple[int, int, int] | None:
        """Line and range of an operator between two nodes: on one line, or first on the line of the right one."""
        line = right.lineno  # type: ignore[attr-defined]
        start = left.end_col_offset if left.end_lineno == line else 0  # type: ignore[attr-defined]
        gap = self.lines[line - 1][start : right.col_offset].decode()  # type: ignore[attr-defined]
        match = re.fullmatch(rf"[\s)]*({token})[\s(]*", gap)
        return (line, start + match.start(1), start + match.end(1)) if match else None

    def _text(self, node: ast.AST) -> str:
        if node.lineno != node.end_lineno:  # type: ignore[attr-defined]
            return ""
        return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()  # type: ignore[attr-defined]

    def _add(self, node: ast.expr | ast.stmt, text: str, operator: str, place: _Place) -> None:
        if node.lineno == node.end_lineno:
            self._at(node.lineno, node.col_offset, node.end_col_offset or 0, text, operator, place)

    def _at(self, line: int, start: int, end: int, text: str, operator: str, place: _Place) -> None:
        before = self.lines[line - 1].decode()
        after = _replaced(before, start, end, text)
        where = (place.statement, place.body, place.at_import)
        self.found.append(
            Mutant(self.file, line, start, end, text, operator, before.strip(), after.strip(), *where)
        )


def _first_line(node: ast.excepthandler | ast.match_case) -> int:
    return node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno


def _unseen(test: ast.expr) -> bool:
    """Whether a condition holds for type checkers only, or for a module that is run as a program."""
    text = ast.unparse(test)
    return text in ("TYPE_CHECKING", "typing.TYPE_CHECKING") or text.startswith("__name__ ==")


def _assigns_all(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


def _logs(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and bool(LOGGERS.match(ast.unparse(node.func.value)))


def _holds_text(node: ast.expr) -> bool:
    """Whether an operand is a string, list or tuple, which has a `+` and no `-`: any test kills that."""
    text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return text or isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)


def _moved(value: object) -> str | None:
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + 1)
    if isinstance(value, float):
        return repr(value / 2) if value else "1.0"
    return None
