"""Damage to files, from a random generator: to what they say, to how it is written, and to the bytes."""

import copy
import json
import struct
from random import Random
from typing import Any

from ruamel.yaml import YAML

SENTINEL = "/tmp/pipeline-fuzz-was-run"  # noqa: S108 - it must never be there
SCALARS: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 12, 1000, 10**6, 2**31, 2**53, 2**63, 2**64, 2**70, -(2**70), 10**400, 0.0, -0.5,
    0.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"), "", " ", "baseline", "0", "nan", "1e400", "../x",
    "../../../etc/passwd", "/dev/zero", f"$(touch {SENTINEL})", f"; touch {SENTINEL} #", f"`touch {SENTINEL}`",
    "a\nb", "a\x00b", "\x1b[31mred", "\u202ereversed", "\ud800", "日本", "x" * 100_000, "norm=batch", "groups=0",
    "norm=batch,norm=batch", "channels=99999999999999999999", "channels=1000000000", "weight_std=1e400",
    "blocks=1000000000", "rtol=nan", "=", ",", "[]", [], {}, [[]], [None], [0, -1], ["baseline"], {"": None},
    {"a": {"b": []}},
]  # fmt: skip
TEXTS = [
    "\x00", "\ufeff", "\r\n", "\t", "&a ", "*a", "&a *a", "<<: *a\n", "!!python/object/apply:os.system ",
    f'!!python/object/apply:os.system ["touch {SENTINEL}"]', "!!binary x", "!!int x", "!!float x", "!!timestamp x",
    "!!set {a}", "!!omap [a: 1]", "!!bool x", "!!null x", "!!pairs [a]", "!!merge x", "2001-99-99", "2001-01-01",
    "1:2:3", "0x" + "f" * 5000, "9" * 5000, "1e400", ".nan", "-.inf", "NaN", "Infinity", "? [a]\n: b\n",
    "? {a: b}\n: c\n", "{[a]: b}", "%YAML 9.9\n---\n", "%TAG ! tag:x,2000:\n---\n", "---\n", "...\n", "- ", ": ",
    "{", "}", "[", "]", ",", '"', "'", "|\n", "[" * 3000, "{a: " * 3000, "- " * 3000, '{"a":' * 100_000, "\\ud800",
    "\\u0000", "#", "\ud800",
]  # fmt: skip


def list_places(content: Any) -> list[tuple[Any, Any]]:
    """Every container below, with every key or index of it."""
    found, parts = [], [content]
    for part in parts:
        pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, value in list(pairs):
            found.append((part, key))
            parts.append(value)
    return found


def damage_tree(content: Any, random: Random) -> Any:
    """Parsed content with one to three keys or values dropped, repeated, renamed, moved, swapped or made extreme."""
    content = copy.deepcopy(content)
    for _ in range(random.randint(1, 3)):
        if not (places := list_places(content)):
            return random.choice(SCALARS)
        part, key = random.choice(places)
        what = random.choice(["drop", "scalar", "scalar", "scalar", "rename", "wrap", "swap", "add", "repeat"])
        if what == "drop":
            del part[key]
        elif what == "scalar":
            part[key] = copy.deepcopy(random.choice(SCALARS))
        elif what == "rename" and isinstance(part, dict):
            part[random.choice(["", "x", "a\nb", "\x1b", "\ud800", f"{key}s", "status", "y" * 5000])] = part.pop(key)
        elif what == "wrap":
            part[key] = random.choice([[part[key]], {"a": part[key]}, str(part[key])])
        elif what == "swap":
            other, name = random.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                part[key] = copy.deepcopy(other[name])
        elif what == "add" and isinstance(part, dict):
            part[random.choice(["added", "initial", "groups", "kind"])] = copy.deepcopy(random.choice(SCALARS))
        elif what == "repeat" and isinstance(part, list):
            part[key:key] = [copy.deepcopy(part[key])] * random.choice([1, 2, 300])
    return content


def damage_text(text: str, random: Random) -> str:
    """Text with lines dropped, repeated or moved, and pieces of other grammar put in."""
    for _ in range(random.randint(1, 3)):
        lines = text.splitlines(keepends=True) or [""]
        line = random.randrange(len(lines))
        what = random.choice(["insert", "insert", "replace", "drop", "repeat", "move", "cut"])
        if what in ("insert", "replace"):
            at = random.randint(0, len(lines[line]))
            end = at if what == "insert" else min(len(lines[line]), at + random.randint(1, 20))
            lines[line] = lines[line][:at] + random.choice(TEXTS) + lines[line][end:]
        elif what == "drop":
            del lines[line]
        elif what == "repeat":
            lines[line:line] = [lines[line]] * random.choice([1, 2, 1000])
        elif what == "move":
            lines.insert(random.randrange(len(lines)), lines.pop(line))
        else:
            lines = lines[:line]
        text = "".join(lines)
    return text


def damage_bytes(data: bytes, random: Random) -> bytes:
    """Bytes flipped, cut, put in, or in another encoding."""
    what = random.choice(["flip", "cut", "insert", "encode", "crlf", "splice", "noise"])
    at = random.randint(0, len(data))
    if what == "flip":
        changed = bytearray(data or b"x")
        for _ in range(random.randint(1, 8)):
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        return bytes(changed)
    if what == "cut":
        return data[:at]
    if what == "insert":
        return data[:at] + random.choice([b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x80\x04\x95."]) + data[at:]
    if what == "encode":
        text = data.decode("latin-1") + "é"
        return text.encode(random.choice(["latin-1", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))
    if what == "crlf":
        return data.replace(b"\n", random.choice([b"\r\n", b"\r", b"\n\n"]))
    if what == "splice":
        return data[:at] + data[random.randint(0, len(data)) :]
    return random.randbytes(random.randint(0, 200))


def damage_json(data: bytes, random: Random) -> bytes:
    """JSON with damage at one of the three levels."""
    level = random.choice(["tree", "tree", "text", "bytes"])
    return _write(damage_tree(json.loads(data), random), random) if level == "tree" else _damage(data, level, random)


def damage_yaml(data: bytes, random: Random) -> bytes:
    """YAML with damage at one of the three levels; a damaged tree is written as JSON, which is YAML too."""
    level = random.choice(["tree", "tree", "text", "bytes"])
    if level != "tree":
        return _damage(data, level, random)
    written = _write(damage_tree(YAML(typ="safe").load(data), random), random)
    return written.replace(b"NaN", b".nan").replace(b"Infinity", b".inf")


def _write(content: Any, random: Random) -> bytes:
    return json.dumps(content, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")


def damage_table(data: bytes, random: Random) -> bytes:
    """Tab-separated text with cells made extreme, or damage to text or bytes."""
    level = random.choice(["cell", "text", "bytes"])
    if level == "cell":
        rows = [line.split("\t") for line in data.decode().splitlines()]
        for _ in range(random.randint(1, 3)):
            row = random.choice(rows)
            row[random.randrange(len(row))] = str(random.choice(SCALARS))[:200_000] if random.random() < 0.8 else "٣"
        return "\n".join(map("\t".join, rows)).encode("utf-8", "surrogatepass")
    return _damage(data, level, random)


def damage_tensors(data: bytes, random: Random) -> bytes:
    """A safetensors file with damage to its header's JSON, its length, or the bytes."""
    level = random.choice(["header", "header", "length", "bytes"])
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    if level == "header":
        header = damage_json(header, random)
        return struct.pack("<Q", len(header)) + header + body
    if level == "length":
        claimed = random.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, len(data)])
        return struct.pack("<Q", claimed) + header + body
    return damage_bytes(data, random)


def _damage(data: bytes, level: str, random: Random) -> bytes:
    if level == "text":
        return damage_text(data.decode(), random).encode("utf-8", "surrogatepass")
    return damage_bytes(data, random)
