"""PTX as text: types, statements, operands, special registers."""
import re

SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
FLOATS = {"f32": 4, "f64": 8}
HALVES = {"f16": "h", "bf16": "b"}


class Unknown(Exception):
    pass


def bits(kind):
    """Width of a PTX type in bits."""
    if kind == "pred":
        return 1
    if kind in ("f16x2", "bf16x2", "tf32"):
        return 32
    if kind == "bf16":
        return 16
    return int(kind[1:])


def c_type(kind):
    """The C type that holds a value of a PTX type."""
    if kind == "pred":
        return "u8"
    if kind in FLOATS or (kind[0] in "su" and kind[1:] in SIZES):
        return kind
    return f"u{bits(kind)}"


def word(name):
    return re.sub(r"\W", "_", name)


def statements(text):
    """('head', x) of a function, ('{'), ('}'), ('label', x), ('line', x), without comments and
    debugging information."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"(?m)^\s*\.(loc|file)\b.*$", "", text)
    text = re.sub(r"\.section\s+\.debug\w*\s*\{[^}]*\}", "", text)
    here = ""
    for piece in re.split(r"([;{}]|(?<![\w:]):(?!:)|(?<=\w):(?!:))", text):
        blank = not here.strip()
        if piece == "{" and (blank or re.match(r"\s*(\.visible\s+|\.weak\s+)?\.(entry|func)\b", here)):
            yield ("{", "") if blank else ("head", " ".join(here.split()))
            here = ""
        elif piece == "}" and blank:
            yield "}", ""
            here = ""
        elif piece == ":" and re.fullmatch(r"\s*[\w$]+\s*", here):
            yield "label", here.strip()
            here = ""
        elif piece == ";":
            if not blank:
                yield "line", " ".join(here.split())
            here = ""
        else:
            here += piece
    if here.strip():
        raise Unknown(f"the end: {here.strip()[:80]}")


def operands(text):
    """Split at commas that are not inside {}, [] or ()."""
    found, depth, here = [], 0, ""
    for char in text:
        depth += char in "{[("
        depth -= char in "}])"
        if char == "," and depth == 0:
            found.append(here.strip())
            here = ""
        else:
            here += char
    if here.strip():
        found.append(here.strip())
    return found


SPECIAL = {"%laneid": "L->lane", "%warpid": "L->warp", "%smid": "0u", "%nsmid": "1u", "%gridid": "0",
           "%clock": "(u32)L->clock()", "%clock64": "L->clock()", "%globaltimer": "L->clock()",
           "%lanemask_eq": "(1u << L->lane)", "%lanemask_lt": "((1u << L->lane) - 1)",
           "%lanemask_le": "((2u << L->lane) - 1)", "%lanemask_gt": "~((2u << L->lane) - 1)",
           "%lanemask_ge": "~((1u << L->lane) - 1)", "%dynamic_smem_size": "L->dynamic",
           "%total_smem_size": "L->shared_bytes", "%cluster_ctarank": "0u", "%cluster_nctarank": "1u",
           "%is_explicit_cluster": "0"}
for axis, at in zip("xyz", "012"):
    for name, field in (("tid", "tid"), ("ntid", "ntid"), ("ctaid", "ctaid"), ("nctaid", "nctaid"),
                        ("clusterid", "ctaid"), ("nclusterid", "nctaid")):
        SPECIAL[f"%{name}.{axis}"] = f"L->{field}[{at}]"
    SPECIAL[f"%cluster_ctaid.{axis}"] = "0u"
    SPECIAL[f"%cluster_nctaid.{axis}"] = "1u"
