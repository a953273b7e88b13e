"""Makes JSON that readers may read differently."""

from support.readers.chance import Chance, mutated

GOOD, EVIL = "good-model", "evil-model"

_OTHERS = ("models", "model_id", "messages", "input", "metadata", "tools", "x", "", "stream", "__proto__")
_NAMES = (*("model",) * 12, *_OTHERS)
_TOP_NAMES = (*("model",) * 3, *_OTHERS)
_BLANKS = (*("",) * 8, " ", "\n", "\t", "\r\n", "  ")
_ODD_BLANKS = ("\x0b", "\x0c", "\xa0", "\ufeff", "\u2028", "\x00", "/* x */", "// x\n", "# x\n")
_SCALARS = (
    *("0", "-0", "1", "1.5", "1e5", "-1E-5", "01", "1.", ".5", "+1", "0x10", "1e999"),
    *("1_000", "NaN", "Infinity", "-Infinity", "nan", "1e", "--1", "9007199254740993"),
    *("true", "false", "null", "True", "None", "undefined", "nul"),
    "\u0661",
    "1" * 400,
)
_TEXTS = (
    *(GOOD, GOOD, GOOD, GOOD, EVIL, EVIL, "", "hello", "a\nb", "\x7f", "\ufeff", "\u6f22"),
    *('{"model": "evil-model"}', '", "model": "evil-model', f"{GOOD}\0{EVIL}", f" {EVIL}", f"{EVIL},{GOOD}"),
    *("\ud800", "\udc00", "\ud83d\ude00", "x" * 300, '\u6f22\\"' * 120, "\ud800" + "x" * 300),
)
_PIECES = (
    *(b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b"'", b"\0", b" ", b"\n", b"/*", b"*/", b"//", b"#", b"NaN"),
    *(b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe6\xbc", b"\xef\xbb\xbf", b"\x1e", b"\x1b", b"\x85"),
    *(b"\\u0000", b"\\ud800", b"\\u006d", b"\\x6d", b'"model"', b'"MODEL"'),
    *(b'"model": "evil-model"', b'"model": "evil-model",', b'{"model": "evil-model"}'),
)
_WRAPPERS = ("[%s]", "%s%s", '{"x": %s}', "%s,", "null", "%s null", ")]}',\n%s")
_CODES = (
    *(("utf-8", "surrogatepass"),) * 4,
    *((code, "replace") for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp037")),
)


def json_body(chance: Chance) -> bytes:
    """Return a body of JSON, or nearly."""
    chance.begin()
    text = _object(chance, 0)
    if chance.is_odd():
        text = chance.choice(_WRAPPERS).replace("%s", text)
    text = chance.choice(_BLANKS) + text + chance.choice(_BLANKS)
    code, errors = chance.choice(_CODES) if chance.is_odd(20) else ("utf-8", "replace")
    body = text.encode(code, errors)
    return mutated(body, chance, _PIECES) if chance.is_odd(4) else body


def _object(chance: Chance, depth: int) -> str:
    members = [_member(chance, depth) for _ in range(chance.choice((0, 1, 1, 2, 2, 3) if depth else (1, 1, 2, 3)))]
    if not depth and not chance.is_odd(8):
        members.insert(chance.randrange(len(members) + 1), f'"model":{_string(GOOD, chance)}')
    return "{" + ",".join(members) + ("," if chance.is_odd(80) else "") + "}"


def _member(chance: Chance, depth: int) -> str:
    name = chance.choice(_NAMES if depth else _TOP_NAMES)
    colon = f"{_blank(chance)}:{_blank(chance)}"
    return f"{_blank(chance)}{_name(name, chance)}{colon}{_value(chance, depth + 1)}{_blank(chance)}"


def _value(chance: Chance, depth: int) -> str:
    kind = chance.randrange(20)
    if kind < 11:
        return _string(chance.choice(_TEXTS) if chance.is_odd(2) else GOOD, chance)
    if kind < 14:
        return chance.choice(_SCALARS) if chance.is_odd(3) else "1"
    if depth > 4:
        return "[]"
    if kind < 17:
        return _object(chance, depth)
    if chance.is_odd():
        deep = chance.choice((100, 190, 210, 600, 1100, 11_000))
        return "[" * deep + "]" * deep
    return "[" + ",".join(_value(chance, depth + 1) for _ in range(chance.randrange(4))) + "]"


def _name(name: str, chance: Chance) -> str:
    if chance.is_odd(6):
        underlined = f"{name[:2]}_{name[2:]}"
        name = chance.choice((name.upper(), name.title(), f"{name}\0", f"{name}\0x", f"{name} ", underlined))
    return name if chance.is_odd(80) else _string(name, chance)


def _string(text: str, chance: Chance) -> str:
    """Return a string of JSON, some of it escaped; rarely with wrong quotation marks or escapes."""
    often = chance.choice((1, 1, 1, 3)) if chance.is_odd(6) else 0
    spelled = "".join(_letter(letter, chance, often) for letter in text)
    mark = "'" if chance.is_odd(150) else '"'
    return f"{mark}{spelled}{mark}"


def _letter(letter: str, chance: Chance, often: int) -> str:
    if letter in '"\\':
        return "\\" + letter
    is_escaped = (often and chance.random() * often < 1) or (letter < " " and not chance.is_odd())
    if not is_escaped and not "\ud800" <= letter <= "\udfff":
        return letter
    code = ord(letter)
    if chance.is_odd(300):
        return chance.choice((f"\\x{code & 0xFF:02x}", f"\\U{code:08x}", f"\\{letter}", f"\\u{{{code:x}}}"))
    return f"\\u{code:04x}" if chance.random() < 0.5 else f"\\u{code:04X}"


def _blank(chance: Chance) -> str:
    return chance.choice(_ODD_BLANKS) if chance.is_odd(300) else chance.choice(_BLANKS)
