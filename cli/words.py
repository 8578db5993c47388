"""What the library says, in the words of the command line: flags for parameters, commands for functions."""

import ast
import re

import click

# Parameters of the library that have another name on the command line, wherever they occur.
ALIASES = {
    "run": ("run_directory",),
    "directory": ("out", "run_directory"),
    "path": ("out",),
    "data": ("cohort",),
}
BLOCKS = ("data", "preprocess", "model", "training", "detail")  # of a recipe
# Functions of the library -> the command that does the same; `{}` is the first argument.
COMMANDS = {
    "resume": "mrigen fit --resume {}",
    "resume_sweep": "mrigen sweep --resume {}",
    "learn_detail": "mrigen detail --run {}",
}
# What Python has as an attribute -> how the command line shows it.
ATTRIBUTES = {"Job.script": "mrigen submit ... --dry-run"}
_CALL = re.compile(r"`mrigen\.(\w+)\(([^`]*)\)`")
_PARAMETER = re.compile(r"`([A-Za-z_][\w.]*)(?:=([^`]*))?`")
# What a fault is about: a parameter, one item of it, or a value that it was given.
_ABOUT = re.compile(r"(\w+)(?:\[(.*)\]|=(.*))?", re.DOTALL)


def flags_of(command: click.Command | None) -> dict[str, click.Parameter]:
    """Returns the options and arguments of a command, by the names that the library has for them."""
    parameters = {} if command is None else {parameter.name: parameter for parameter in command.params}
    # `--learning-curve` is `learning_curve`, whatever the command calls its variable.
    for parameter in list(parameters.values()):
        for option in parameter.opts:
            parameters.setdefault(option.lstrip("-").replace("-", "_"), parameter)
    for name, aliases in ALIASES.items():
        for alias in aliases:
            if name not in parameters and alias in parameters:
                parameters[name] = parameters[alias]
    return parameters


def translate(text: str, command: click.Command | None = None) -> str:
    """Returns a line of the library as the command line says it; see `mrigen.errors`."""
    flags = flags_of(command)

    def say_parameter(match: re.Match) -> str:
        name, value = match.groups()
        if name in ATTRIBUTES:
            return ATTRIBUTES[name]
        if name in flags:
            return _flag(flags[name], value)
        if value is None:
            return name
        is_setting = "overrides" in flags and ("." in name or name in BLOCKS)
        return f"--set {name}={value}" if is_setting else f"{name}={value}"

    return _PARAMETER.sub(say_parameter, _CALL.sub(_say_call, text))


def translate_fault(fault, command: click.Command | None) -> str:
    """Returns a fault as the command line says it.

    `over[model.beta]: got ...` is `--over model.beta: got ...` there, and `column='x': ...` is `--sort x: ...`.
    """
    text, flags = translate(fault.text, command), flags_of(command)
    if fault.parameter is None:
        return text
    about = _ABOUT.fullmatch(fault.parameter)
    if about is None or about[1] not in flags:
        return f"{fault.parameter}: {text}"
    if about[2] is not None:  # An item is said as it was given.
        return f"{_flag(flags[about[1]])} {about[2]}: {text}"
    return f"{_flag(flags[about[1]], about[3])}: {text}"


def _flag(parameter: click.Parameter, value: str | None = None) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.human_readable_name if value is None else _say_value(value)
    flag = max(parameter.opts, key=len)
    if value is None or getattr(parameter, "is_flag", False):
        return flag
    return f"{flag} {_say_value(value)}"


def _say_value(text: str) -> str:
    """Returns a Python value as one types it: a dictionary is KEY=VALUE, a list has commas."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text.strip("'\"")
    if isinstance(value, dict):
        return ",".join(f"{name}={_say_item(item)}" for name, item in value.items())
    return _say_item(value) if isinstance(value, (list, tuple)) else text.strip("'\"")


def _say_item(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _say_call(match: re.Match) -> str:
    from mrigen_cli.main import VERBS, mrigen

    verb, text = match.groups()
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        words = [str(ast.literal_eval(argument)) for argument in call.args]
        settings = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError):
        words, settings = [text], {}
    if verb in COMMANDS:
        return COMMANDS[verb].format(*(words or ["RUN"])) + (" --force" if settings.get("force") else "")
    flags = flags_of(mrigen.get_command(None, verb) if verb in VERBS else None)
    options = [
        _flag(flags[name], str(value)) if name in flags else f"{name}={value}" for name, value in settings.items()
    ]
    return " ".join(["mrigen", verb, *words, *options])
