"""The codes of everything that can be wrong or odd with a row of a training file."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RowCode(StrEnum):
    """What was found; stable, so that clients may decide on it.

    `ERRORS` make a file unusable, `WARNINGS` do not, and `OF_JOBS` are found with a job's model and
    files; each code is in one of the three.
    """

    BYTE_ORDER_MARK = "byte_order_mark"
    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    NUMBER_TOO_LONG = "number_too_long"
    NUMBER_NOT_FINITE = "number_not_finite"
    DUPLICATE_KEY = "duplicate_key"
    NULL_CHARACTER = "null_character"
    LONE_SURROGATE = "lone_surrogate"
    NESTED_TOO_DEEP = "nested_too_deep"
    EMPTY_FILE = "empty_file"
    COMPRESSED_FILE = "compressed_file"
    JSON_ARRAY = "json_array"
    CSV_FILE = "csv_file"
    ROW_TOO_LONG = "row_too_long"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_MANY_BLANK_LINES = "too_many_blank_lines"
    ROW_NOT_AN_OBJECT = "row_not_an_object"
    MISSING_MESSAGES = "missing_messages"
    EMPTY_MESSAGES = "empty_messages"
    WRONG_TYPE = "wrong_type"
    UNKNOWN_KEY = "unknown_key"
    MISSING_ROLE = "missing_role"
    UNKNOWN_ROLE = "unknown_role"
    MISSING_CONTENT = "missing_content"
    UNSUPPORTED_CONTENT = "unsupported_content"
    EMPTY_ASSISTANT = "empty_assistant"
    NO_ASSISTANT_TURN = "no_assistant_turn"
    NO_TRAINED_TURN = "no_trained_turn"
    WRONG_WEIGHT = "wrong_weight"
    MISPLACED_WEIGHT = "misplaced_weight"
    TOOLS_UNSUPPORTED = "tools_unsupported"
    MALFORMED_TOOLS = "malformed_tools"
    MALFORMED_TOOL_CALL = "malformed_tool_call"
    MALFORMED_TOOL_RESULT = "malformed_tool_result"
    MIXED_KINDS = "mixed_kinds"
    MISSING_INPUT = "missing_input"
    MISSING_OUTPUT = "missing_output"
    EMPTY_OUTPUT = "empty_output"
    SEVERAL_OUTPUT_TURNS = "several_output_turns"
    OUTPUT_NOT_ASSISTANT = "output_not_assistant"

    SYSTEM_NOT_FIRST = "system_not_first"
    REPEATED_ASSISTANT = "repeated_assistant"
    REPEATED_USER = "repeated_user"
    LAST_TURN_NOT_ASSISTANT = "last_turn_not_assistant"
    ANSWER_WITHOUT_PROMPT = "answer_without_prompt"
    EMPTY_PROMPT = "empty_prompt"
    SPECIAL_TOKEN = "special_token"  # noqa: S105 - the name of a finding
    MOJIBAKE = "mojibake"
    REPLACEMENT_CHARACTER = "replacement_character"
    CONTROL_CHARACTER = "control_character"
    DUPLICATE_ROW = "duplicate_row"
    NEAR_DUPLICATE_ROW = "near_duplicate_row"
    IDENTICAL_OUTPUTS = "identical_outputs"
    IDENTICAL_ANSWERS = "identical_answers"
    TOO_FEW_ROWS = "too_few_rows"

    TOO_MANY_TOKENS = "too_many_tokens"
    CHAT_TEMPLATE_REFUSED = "chat_template_refused"
    IN_TRAINING_FILE = "in_training_file"


_UTF8: Final = "Save the file as UTF-8 without BOM."
_ROLES: Final = "Write system, developer, user or assistant."
_NO_TOOLS: Final = "Remove the row: rows with tools can't be trained on, mended or not."

ERRORS: Final[Mapping[RowCode, tuple[str, str]]] = {
    RowCode.BYTE_ORDER_MARK: ("The line starts with a byte order mark.", _UTF8),
    RowCode.INVALID_UTF8: ("The line is not UTF-8.", _UTF8),
    RowCode.INVALID_JSON: ("The line is not JSON.", "Write one complete JSON object per line."),
    RowCode.NUMBER_TOO_LONG: ("A number has thousands of digits.", "Shorten it."),
    RowCode.NUMBER_NOT_FINITE: ("NaN, Infinity or a number past 1.8e308.", "Write null."),
    RowCode.DUPLICATE_KEY: ("An object names a key twice.", "Keep one of the two."),
    RowCode.NULL_CHARACTER: ("A text holds U+0000.", "Remove it."),
    RowCode.LONE_SURROGATE: (
        "A text holds half of a surrogate pair.",
        "Write the character as UTF-8, or both halves.",
    ),
    RowCode.NESTED_TOO_DEEP: ("The row is nested too deep.", "Flatten it."),
    RowCode.EMPTY_FILE: ("The file has no rows.", "Write one JSON object per line."),
    RowCode.COMPRESSED_FILE: ("The file is compressed.", "Upload the JSON Lines themselves."),
    RowCode.JSON_ARRAY: (
        "The file is a JSON array, not JSON Lines.",
        "Convert it: jq -c '.[]' rows.json > rows.jsonl",
    ),
    RowCode.CSV_FILE: (
        "The file is a table (CSV), not JSON Lines.",
        'Write each row as a line {"messages": […]}: csv.DictReader, json.dumps in Python.',
    ),
    RowCode.ROW_TOO_LONG: (
        "The line is longer than `TUNEWARD_MAX_ROW_BYTES`.",
        "Split or shorten the conversation.",
    ),
    RowCode.TOO_MANY_ROWS: ("The file has more than a million rows.", "Split the file."),
    RowCode.TOO_MANY_BLANK_LINES: ("The file has over a thousand blank lines.", "Remove them."),
    RowCode.ROW_NOT_AN_OBJECT: ("The line is JSON, but no object.", 'Write {"messages": […]}.'),
    RowCode.MISSING_MESSAGES: ("The row has no `messages`.", "Write the turns under that key."),
    RowCode.EMPTY_MESSAGES: ("The list of messages is empty.", "Add the turns."),
    RowCode.WRONG_TYPE: ("A value has the wrong type.", "The message names the right one."),
    RowCode.UNKNOWN_KEY: ("A message has an unknown key.", "Remove it, or mend its spelling."),
    RowCode.MISSING_ROLE: ("A message has no role.", _ROLES),
    RowCode.UNKNOWN_ROLE: ("A message has an unknown role.", _ROLES),
    RowCode.MISSING_CONTENT: ("A message has no content.", "Write the text of the turn."),
    RowCode.UNSUPPORTED_CONTENT: ("A content part is not text.", "Keep parts of type text only."),
    RowCode.EMPTY_ASSISTANT: (
        "A turn of the assistant is empty or white space.",
        "Write the answer to learn, or remove the row.",
    ),
    RowCode.NO_ASSISTANT_TURN: ("Nobody answers in the row.", "Add a turn of the assistant."),
    RowCode.NO_TRAINED_TURN: (
        "All turns of the assistant have weight 0.",
        "Give weight 1 to the turn to learn from.",
    ),
    RowCode.WRONG_WEIGHT: ("A weight is neither 0 nor 1.", "Write 0 or 1."),
    RowCode.MISPLACED_WEIGHT: ("A turn of another role has a weight.", "Remove the weight."),
    RowCode.TOOLS_UNSUPPORTED: ("The row uses tools.", "Remove the row."),
    RowCode.MALFORMED_TOOLS: ("`tools` is not a list of functions with names.", _NO_TOOLS),
    RowCode.MALFORMED_TOOL_CALL: (
        "`tool_calls` is not a list of calls with id, function name and arguments as JSON text.",
        _NO_TOOLS,
    ),
    RowCode.MALFORMED_TOOL_RESULT: ("A turn of a tool names no call in `tool_call_id`.", _NO_TOOLS),
    RowCode.MIXED_KINDS: (
        "The row is a chat in a file of preferences, or the other way round.",
        "Give each kind a file of its own.",
    ),
    RowCode.MISSING_INPUT: ("A preference has no `input`.", "Write the prompt under that key."),
    RowCode.MISSING_OUTPUT: (
        "A preference lacks `preferred_output` or `non_preferred_output`.",
        "Write both, each a list of one turn of the assistant.",
    ),
    RowCode.EMPTY_OUTPUT: ("An output is an empty list.", "Add the turn of the assistant."),
    RowCode.SEVERAL_OUTPUT_TURNS: (
        "An output has more than one turn.",
        "Keep the last turn, and put what leads to it into `input`.",
    ),
    RowCode.OUTPUT_NOT_ASSISTANT: (
        "The turn of an output is not the assistant's.",
        'Write "role": "assistant".',
    ),
}

WARNINGS: Final[Mapping[RowCode, tuple[str, str]]] = {
    RowCode.SYSTEM_NOT_FIRST: (
        "A system turn stands behind another turn; some chat templates refuse that.",
        "Put the instructions into one first turn.",
    ),
    RowCode.REPEATED_ASSISTANT: (
        "The assistant speaks twice in a row.",
        "Join the two turns, or add what was asked in between.",
    ),
    RowCode.REPEATED_USER: ("The user speaks twice in a row.", "Join the two turns."),
    RowCode.LAST_TURN_NOT_ASSISTANT: (
        "The row ends without an answer; what follows the last answer is not learned from.",
        "Add the answer, or remove the last turn.",
    ),
    RowCode.ANSWER_WITHOUT_PROMPT: (
        "The assistant speaks first; a first turn is not learned from.",
        "Put the turn that it answers before it.",
    ),
    RowCode.EMPTY_PROMPT: ("A turn of the user is empty or white space.", "Write what was asked."),
    RowCode.SPECIAL_TOKEN: (
        "A text spells what looks like a model's special token; it is learned as plain text.",
        "Remove it, unless the text is about special tokens.",
    ),
    RowCode.MOJIBAKE: (
        "UTF-8 was read in another encoding on the way, so that é became two characters.",
        "Export the text again, as UTF-8 from end to end.",
    ),
    RowCode.REPLACEMENT_CHARACTER: (
        "A text holds U+FFFD, which stands for a character that was lost.",
        "Export the text again in its right encoding.",
    ),
    RowCode.CONTROL_CHARACTER: (
        "A text holds a control character other than tab and line ends.",
        "Remove it.",
    ),
    RowCode.DUPLICATE_ROW: ("The same conversation stood on an earlier line.", "Keep one."),
    RowCode.NEAR_DUPLICATE_ROW: (
        "An earlier line differs in case, white space and punctuation only.",
        "Keep one.",
    ),
    RowCode.IDENTICAL_OUTPUTS: (
        "Both outputs of a preference are the same, so nothing can be learned from it.",
        "Write two different answers, or remove the row.",
    ),
    RowCode.IDENTICAL_ANSWERS: (
        "Every row ends with the same answer, so the model learns to say only that.",
        "Check the export; the answers may come from a wrong column.",
    ),
    RowCode.TOO_FEW_ROWS: (
        "The file has fewer than ten usable rows.",
        "Add rows: fifty to a hundred good ones are a start.",
    ),
}

OF_JOBS: Final[Mapping[RowCode, tuple[str, str]]] = {
    RowCode.TOO_MANY_TOKENS: (
        "The row has more tokens than the model may be trained on; the job fails.",
        "Split or shorten the conversation.",
    ),
    RowCode.CHAT_TEMPLATE_REFUSED: (
        "The model's chat template refuses the row; the job fails.",
        "Mend the order of the turns.",
    ),
    RowCode.IN_TRAINING_FILE: (
        "A row of the validation file is, nearly word for word, in the training file; a warning.",
        "Remove it from one of the two: the model is judged by what it has learned.",
    ),
}
