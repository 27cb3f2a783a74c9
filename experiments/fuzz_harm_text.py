"""JSON and Planetoid's files made to do harm: nests, numbers that are none, calls, repetitions without end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from experiments import fuzz_formats as formats


def jsons(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Numbers that are none, nests, keys twice, other types and encodings."""
    text = whole.decode()
    for word in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "nan", "01", "+1", ".5", "0x1"):
        yield "a number that is none, or not finite", text.replace("null", word, 1).encode()
    for depth in (500, 990, 5000, 200_000):
        for left, right in (("[", "]"), ('{"a":', "}")):
            yield "nested deeply", text.replace("null", left * depth + "1" + right * depth, 1).encode()
            yield "nested deeply", (left * depth).encode()
    for name in ("config", "result", "draws"):
        yield "a key twice", text.replace("{", f'{{"{name}": 1, ', 1).encode()
        yield "a key twice", text.replace('"draws"', f'"{name}": 2, "{name}"', 1).encode()
    for value in ("[]", "1", "null", '"a"', "true", "{}", "[[]]"):
        yield "other types", value.encode()
        yield "other types", f'{{"config": {value}, "result": {value}}}'.encode()
        yield "other types", f'{{"config": {{}}, "result": {value}}}'.encode()
    for broken in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\0", b"\n", b"\x1f"):
        yield "text that is not UTF-8, or not allowed", whole.replace(b"cutmix", b"cut" + broken, 1)
    for escape in ("\\ud800", "\\udc00", "\\ud800x", "\\u12", "\\x41", "\\udc00\\ud800"):
        yield "half a character", text.replace("cutmix", f"cut{escape}", 1).encode()
    yield "another encoding", b"\xef\xbb\xbf" + whole
    for code in ("utf-16", "utf-32-le", "latin-1"):
        yield "another encoding", text.replace("\\u00", "").encode(code, errors="replace")


def stored(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Calls, nests, one value in many places, sizes that are not there."""
    calls = (
        "os\nsystem",
        "builtins\neval",
        "__builtin__\nexec",
        "subprocess\nPopen",
        "numpy\nload",
        "nt\nsystem",
        "codecs\nopen",
    )
    for call in calls:
        yield "a serialised call", f"c{call}\n(S'touch executed'\ntR.".encode()
        yield "a serialised call", whole[:-1] + f"0c{call}\n(S'touch executed'\ntR.".encode()
    yield "a serialised call", b"\x80\x02]q\x00(cposix\nsystem\nU\x0etouch executed\x85Re."
    yield "a serialised call", b"(S'touch executed'\niposix\nsystem\n."
    yield "a serialised call", b"(cposix\nsystem\nS'touch executed'\no."
    yield "a serialised call", b"\x80\x02\x82\x01."
    yield "lists in lists", b"\x80\x02" + b"]" * min(size, 10**5) + b"a" * (min(size, 10**5) - 1) + b"."
    yield "lists in lists", b"\x80\x02" + b"]q\x00h\x00a" + b"h\x00h\x00\x86q\x00" * 9000 + b"."
    yield "a key that takes forever", b"\x80\x02}q\x01)q\x00" + b"h\x00h\x00\x86q\x00" * 200 + b"h\x01h\x00K\x01s."
    near = b"(" + b"K\x00" * 3000 + b"e"
    yield (
        "one list in many places",
        b"\x80\x02}(K\x00]"
        + near[:-1]
        + b"eq\x01"
        + b"".join(b"M" + k.to_bytes(2, "little") + b"h\x01" for k in range(3000))
        + b"u.",
    )
    yield (
        "an array without its bytes",
        formats.stored(np.zeros((3, 3), np.int32)).replace(b"K\x03K\x03", b"J\xff\xff\xff\x7fK\x03"),
    )
    yield "a huge number", b"\x80\x02\x8b" + (10**5).to_bytes(4, "little") + b"\x7f" * 10**5 + b"."
    yield "a huge number", b"\x80\x02\x8b\xff\xff\xff\x7f\x01."
    yield "a huge number", b"T\xff\xff\xff\x7fa."
    yield "a huge number", b"r\xff\xff\xff\xff."
    rows = (np.ones(2, np.float32), np.zeros(2, np.int32), np.array([0, 1, 2], np.int32))
    for shape in ((2, 2**31 - 1), (2, 10**6), (2, -1), (2**31 - 1, 2)):
        yield "a matrix that is nearly empty", formats.stored((*rows, shape))
    for text in (b"0 1 2", b"-1\n-2", b"1e9", b"999999999\n1", b"1\n1", b"9" * 10**5, "٣".encode(), b"0 " * 50_000):
        yield "a test index that is none", text


def long_jsons(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Values that take much more memory than text; ``size`` is about their length."""
    text = whole.decode()
    for unit in ("[]", "{}", '{"":0}', "999", "1.5", '"ab"', '"\U0001f600"', "[[[1]]]", '{"a":{"b":""}}'):
        values = f"{unit}," * (size // (len(unit) + 1))
        yield "values without end", text.replace("null", f"[{values}1]", 1).encode()
        yield "values without end", f'{{"config": {{}}, "result": {{"a": [{values}1]}}}}'.encode()
    for unit in ("0", "[]", "{}"):
        keys = "".join(f'"{k:x}":{unit},' for k in range(size // 9))
        yield "keys without end", text.replace("null", f'{{{keys}"a":1}}', 1).encode()
    yield "one wide character", text.replace("null", '"' + "a" * size + '\U0001f600"', 1).encode()


def long_stored(whole: bytes, size: int) -> Iterator[tuple[str, bytes]]:
    """Values that take much more memory than bytes; ``size`` is about their length."""
    if b"defaultdict" not in whole:
        return
    for many in (b"]", b"]\x94", b"}", b")"):
        count = size // (5 + len(many))
        parts = [b"J" + k.to_bytes(4, "little") + many for k in range(count)]
        runs = b"".join(b"(" + b"".join(parts[low : low + 1000]) + b"u" for low in range(0, count, 1000))
        yield "lists without end", b"\x80\x04}" + runs + b"."
    yield "numbers without end", b"\x80\x02]" + (b"(" + b"M\xff\xff" * 1000 + b"e") * (size // 3000) + b"."
    yield "numbers without end", b"\x80\x02]" + (b"(" + b"K\xff" * 1000 + b"e") * (size // 2000) + b"."
    yield "values numbered without end", b"\x80\x04]" + b"\x94" * size + b"."
    yield "values numbered without end", b"\x80\x04]" + b"K\xff\x94a" * (size // 4) + b"."
    puts = b"".join(b"K\xffr" + k.to_bytes(4, "little") + b"a" for k in range(size // 8))
    yield "values numbered without end", b"\x80\x04]" + puts + b"."
