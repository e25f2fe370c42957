"""The computed reference pages by file name."""

from collections.abc import Callable, Mapping

from cli.reference import errors, http_api, settings

PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings.render,
    "errors.md": errors.render,
    "http-api.md": http_api.render,
}
