"""The Python of a recipe's steps, taken over as text: parsed, never imported, never run."""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.recipe import inside

_STEPS = "steps"


@dataclass(frozen=True)
class Step:
    """One module of a recipe's steps.

    Attributes:
        name: its name, like transform.
        file: where it is.
        text: its source, as it is taken over.
        tree: the same, parsed.
        mended: what was brought up to date in it: where, and what.
    """

    name: str
    file: Path
    text: str
    tree: ast.Module
    mended: tuple[tuple[str, str], ...] = ()

    def function(self, name: str) -> ast.FunctionDef | None:
        """It returns the function of that name, or None."""
        found = [n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
        return found[-1] if found else None

    def kept_by_models(self) -> list[str]:
        """It returns its own functions and classes that end up inside what is fitted.

        A class that it makes objects of, and a function that it hands on instead of calling it.
        """
        kinds = (ast.FunctionDef, ast.ClassDef)
        own = {n.name: n for n in self.tree.body if isinstance(n, kinds)}
        called = {id(n.func): n for n in ast.walk(self.tree) if isinstance(n, ast.Call)}
        kept = set()
        for node in ast.walk(self.tree):
            if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
                continue
            there = own.get(node.id)
            if there is not None and isinstance(there, ast.ClassDef) == (id(node) in called):
                kept.add(node.id)
        marks = {n.id for d in own.values() for n in _names(d.decorator_list)}
        return sorted(kept - marks)

    def imported(self, others: list[str]) -> list[str]:
        """It returns what it imports from some other steps, as `module import names`."""
        links = [n for n in self.tree.body if isinstance(n, ast.ImportFrom)]
        there = [n for n in links if _other_step(n) in others]
        return [ast.unparse(n).removeprefix(f"from {_STEPS}.") for n in there]

    def has_lambdas(self) -> bool:
        """It says whether a FunctionTransformer is made of a lambda, which cannot be stored."""
        made = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call)]
        given = [
            value
            for call in made
            if _called(call) == "FunctionTransformer"
            for value in (*call.args, *(k.value for k in call.keywords))
        ]
        return any(isinstance(value, ast.Lambda) for value in given)


def _names(nodes: list[ast.expr]) -> list[ast.Name]:
    return [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)]


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


@dataclass
class Code:
    """The steps that a problem takes code from.

    Attributes:
        root: the recipe's folder.
        steps: by name, in the order in which they were asked for.
    """

    root: Path
    steps: dict[str, Step] = field(default_factory=dict)
    _reading: list[str] = field(default_factory=list)

    def find(self, step: str, method: str) -> tuple[Step, str]:
        """It returns the module and the name of a method, as recipes write it.

        Args:
            step: the module where a plain name is.
            method: a name, or `steps.module.name`.

        Raises:
            DeclarationError: there is no such file or function.
        """
        module, _, name = str(method).rpartition(".")
        module = module.removeprefix(_STEPS).lstrip(".") or step
        found = self._step(module)
        if found.function(name) is None:
            there = [n.name for n in found.tree.body if isinstance(n, ast.FunctionDef)]
            raise DeclarationError(
                f"{found.file} has no function `{name}`.{did_you_mean(name, there)}"
            )
        return found, name

    def _step(self, module: str) -> Step:
        if module in self.steps:
            return self.steps[module]
        if not module.isidentifier():
            raise DeclarationError(f"`{module}` is no module of the recipe's steps.")
        file = self.root / _STEPS / f"{module}.py"
        if not file.is_file():
            raise DeclarationError(f"There is no {file}, which the recipe names.")
        if module in self._reading:
            raise DeclarationError(f"{file} and another step import each other: take one apart.")
        try:
            text = inside(self.root, file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DeclarationError(f"{file} cannot be read: {error}.") from None
        self._reading.append(module)
        text, mended = _brought_up_to_date(file, text)
        found = Step(module, file, text, _parsed(file, text), mended)
        for node in found.tree.body:  # what it takes from other steps comes before it
            if isinstance(node, ast.ImportFrom) and _other_step(node):
                self._step(_other_step(node))
        self._reading.remove(module)
        self.steps[module] = found
        return found

    def absent(self) -> list[str]:
        """It returns the modules of the recipe's folder that its steps import."""
        asked = set()
        for step in self.steps.values():
            for node in ast.walk(step.tree):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                taken = node in step.tree.body  # those further in stay as they are
                if isinstance(node, ast.ImportFrom) and not (taken and _other_step(node)):
                    names = [node.module or "steps"] if not node.level else ["steps"]
                asked |= {n.partition(".")[0] for n in names}
        return sorted(
            n for n in asked if (self.root / f"{n}.py").is_file() or (self.root / n).is_dir()
        )


def _other_step(node: ast.ImportFrom) -> str:
    """It returns the step that `from steps.x import y` imports from; empty for any other import."""
    module = node.module or ""
    return module.removeprefix(f"{_STEPS}.") if module.startswith(f"{_STEPS}.") else ""


def _parsed(file: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise DeclarationError(f"{file}:{line} is no Python: {error}.") from None


_SPARSE = "OneHotEncoder(sparse=…) is written sparse_output=…, as scikit-learn has it now."
_NAMES = (
    'feature_names_out="one-to-one" is None: scikit-learn refuses it now where a function adds or '
    "drops columns, and nothing here asks for these names."
)


def _brought_up_to_date(file: Path, text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """It mends what scikit-learn changed since recipes were written."""
    lines, tree = text.split("\n"), _parsed(file, text)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    words = [k for c in calls if _called(c) == "OneHotEncoder" for k in c.keywords]
    found = [
        (k.lineno, k.col_offset, "sparse", "sparse_output") for k in words if k.arg == "sparse"
    ]
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    named = [n for n in constants if n.value == "one-to-one"]
    found += [(n.lineno, n.col_offset, '"one-to-one"', "None") for n in named]
    for line, at, before, after in sorted(found, reverse=True):
        raw = lines[line - 1].encode()
        lines[line - 1] = (raw[:at] + after.encode() + raw[at + len(before) :]).decode()
    told = {"sparse": _SPARSE, '"one-to-one"': _NAMES}
    return "\n".join(lines), tuple(
        (f"steps/{file.name}:{line}", told[before]) for line, _, before, _ in sorted(found)
    )


def together(steps: list[Step], about: str, asked: str, own: list[str]) -> str:
    """It returns one module of several steps, and of functions that call them.

    Args:
        steps: in the order in which they stand there.
        about: the docstring.
        asked: imports.
        own: the source of the functions.

    Raises:
        DeclarationError: two steps mean different things by one name.
    """
    bound: dict[str, tuple[str, Step]] = {}
    future, parts, here = set[str](), [], {s.name for s in steps}
    for step in steps:
        lines = step.text.split("\n")
        for number, node in enumerate(step.tree.body):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                future.add(ast.unparse(node))
                drop = True
            elif isinstance(node, ast.ImportFrom) and _other_step(node):
                renamed = [a for a in node.names if a.asname]
                parts += [f"{a.asname} = {a.name}" for a in renamed if _other_step(node) in here]
                drop = True
            else:
                drop = _already(node, step, bound)
            if drop or (number == 0 and ast.get_docstring(step.tree) is not None):
                _blank(lines, node)
        kept = re.sub(r"\n{3,}", "\n\n\n", "\n".join(lines)).strip("\n")
        if kept.strip():
            rule = "-" * max(3, 90 - len(step.file.name))
            parts.append(f"# {rule} steps/{step.file.name}\n\n{kept}")
    for name in re.findall(r"^def (\w+)", "\n".join(own), re.MULTILINE):
        if name in bound:
            raise DeclarationError(
                f"{bound[name][1].file} defines `{name}`, which is needed here. Rename it there."
            )
    head = "\n".join([f'"""{about}"""', *sorted(future), *(["", asked] if asked else [])])
    return "\n\n\n".join([head, *parts, *own]) + "\n"


def _blank(lines: list[str], node: ast.stmt) -> None:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    for number in range(first - 1, node.end_lineno or node.lineno):
        lines[number] = ""


def _already(node: ast.stmt, step: Step, bound: dict[str, tuple[str, Step]]) -> bool:
    """It says whether a statement stands there already, and notes the names that it binds."""
    meant: dict[str, str] = {}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        origin = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        meant = {(a.asname or a.name): f"import {origin}{a.name}" for a in node.names}
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        meant = {node.name: ast.dump(node)}
    else:
        targets = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        meant = {n.id: ast.dump(node) for n in targets if isinstance(n.ctx, ast.Store)}
    same = bool(meant)
    for name, what in meant.items():
        before, of = bound.setdefault(name, (what, step))
        if of is not step and before != what:
            raise DeclarationError(
                f"`{name}` is one thing in {of.file} and another in {step.file}; here both are in "
                "one module. Rename one of them in the recipe."
            )
        same &= of is not step
    return same


def packaged(step: Step, package: str) -> str:
    """It returns a step as a module of a package: what it takes from other steps comes from there."""
    lines = step.text.split("\n")
    for node in step.tree.body:
        if isinstance(node, ast.ImportFrom) and _other_step(node):
            at = node.lineno - 1
            lines[at] = lines[at].replace(f"from {_STEPS}.", f"from {package}.", 1)
    return "\n".join(lines)
