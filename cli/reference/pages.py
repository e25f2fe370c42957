"""The computed reference pages by file name."""

from collections.abc import Callable, Mapping

from cli.reference import errors, http_api, row_codes, safety_report, settings, training_options

PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings.render,
    "errors.md": errors.render,
    "row-codes.md": row_codes.render,
    "http-api.md": http_api.render,
    "training-options.md": training_options.render,
    "safety-report.md": safety_report.render,
    safety_report.SCHEMA_FILE: safety_report.render_schema,
}
