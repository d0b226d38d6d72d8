"""The demo's exceptions. The text of each is a sentence for the user."""


class DemoError(Exception):
    """The demo cannot go on: tiles that do not connect or cannot be read, or a task that failed."""

    exit_status = 1


class DemoOptionError(DemoError):
    """An option of the command line is wrong."""

    exit_status = 2
