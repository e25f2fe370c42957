"""Rows with tools: refused, but with the precise mistake where they have one."""

import json

from core.datasets.row_codes import RowCode


def tools_code(tools: object) -> RowCode:
    """Choose the code for what stands under `tools` or `functions` of a row."""
    listed = isinstance(tools, list) and all(_is_tool(tool) for tool in tools)
    return RowCode.TOOLS_UNSUPPORTED if listed else RowCode.MALFORMED_TOOLS


def calls_code(calls: object) -> RowCode:
    """Choose the code for what stands under `tool_calls` of a message."""
    listed = isinstance(calls, list) and all(_is_call(call) for call in calls)
    return RowCode.TOOLS_UNSUPPORTED if listed else RowCode.MALFORMED_TOOL_CALL


def result_code(call_id: object) -> RowCode:
    """Choose the code for a turn of a tool by what stands under its `tool_call_id`."""
    named = isinstance(call_id, str) and call_id
    return RowCode.TOOLS_UNSUPPORTED if named else RowCode.MALFORMED_TOOL_RESULT


def _is_tool(tool: object) -> bool:
    # A function of the old form `functions` stands where the new one has a tool around it.
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return _is_named(function)


def _is_call(call: object) -> bool:
    if not isinstance(call, dict) or not isinstance(call.get("id"), str):
        return False
    function = call.get("function")
    if not isinstance(function, dict) or not _is_named(function):
        return False
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _is_named(function: object) -> bool:
    name = function.get("name") if isinstance(function, dict) else None
    return isinstance(name, str) and bool(name)
