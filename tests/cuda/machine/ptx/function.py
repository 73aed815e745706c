"""One function of a module: its names, and its statements one after the other."""
import re

from arithmetic import Arithmetic
from memory import Memory
from text import FLOATS, SIZES, SPECIAL, Unknown, bits, c_type, operands, word
from threads import Threads


class Function(Memory, Arithmetic, Threads):
    """One .entry or .func: emits its C text line by line."""

    def __init__(self, module, name, entry):
        self.module, self.name, self.entry = module, name, entry
        self.out, self.scopes, self.labels, self.fibers, self.scope_count = [], [{}], [{}], False, 0
        self.tables = {}

    # --- names ---

    def declare(self, name, kind):
        self.scopes[-1][name] = ("reg", kind)

    def find(self, name):
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return self.module.symbols.get(name)

    def address(self, text):
        """The C expression of an address operand without its brackets."""
        match = re.fullmatch(r"([%$\w.]+)\s*(?:\+\s*(-?\w+))?", text)
        if not match:
            raise Unknown(f"address [{text}]")
        base, offset = match.groups()
        at = self.read(base, "u64") if not re.fullmatch(r"-?\d\w*", base) else f"{base}ull"
        return f"({at} + {offset})" if offset else at

    def read(self, text, kind):
        """An operand as a C expression of `kind`'s C type."""
        text = text.strip()
        want = c_type(kind)
        if text.startswith("!"):
            return f"!{self.read(text[1:], kind)}"
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", text):
            value = f"0x{text[2:]}u"
            return f"as_f32({value})" if want == "f32" else value
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", text):
            value = f"0x{text[2:]}ull"
            return f"as_f64({value})" if want == "f64" else value
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            value = int(text.rstrip("U"), 0)
            if want in FLOATS:
                return f"(({want}){value})"
            width = max(bits(kind), 8)
            value &= (1 << width) - 1
            return f"(({want}){value}ull)"
        if re.fullmatch(r"-?\d+\.\d*(e[+-]?\d+)?", text):
            return f"(({want}){text})"
        if text in SPECIAL:
            return f"(({want}){SPECIAL[text]})"
        if text == "%laneid":
            return "L->lane"
        found = self.find(text)
        if not found:
            raise Unknown(f"name {text}")
        sort, have = found
        if sort == "shared":
            return f"(({want}){have})"
        if sort in ("memory", "param"):
            return f"(({want})(u64){have})"
        name = "R_" + word(text)
        have = c_type(have)
        if have == want or kind == "pred":
            return name
        if want in FLOATS:
            if SIZES.get(have[1:]) != FLOATS[want]:
                raise Unknown(f"{text} of {have} as {want}")
            return f"as_{want}({name})"
        if have in FLOATS:
            name = f"as_u{have[1:]}({name})"
        return f"(({want}){name})"

    def write(self, text, kind, value):
        """A statement that assigns `value`, of `kind`'s C type, to a destination."""
        if text == "_":
            return f"(void)({value});"
        found = self.find(text)
        if not found or found[0] != "reg":
            raise Unknown(f"destination {text}")
        have, come = c_type(found[1]), c_type(kind)
        name = "R_" + word(text)
        if have in FLOATS and come != have:
            value = f"as_{have}((u{have[1:]})({value}))"
        elif come in FLOATS and have != come:
            value = f"as_u{come[1:]}({value})"
        return f"{name} = {value};"

    # --- the body ---

    def emit(self, text):
        self.out.append(text)

    def line(self, text):
        guard = ""
        match = re.match(r"@(!?)(%?[\w$]+)\s+(.*)", text)
        if match:
            guard = f"if ({match[1]}{self.read(match[2], 'pred')}) "
            text = match[3]
        if text.startswith("."):
            return self.directive(text)
        match = re.match(r"([\w.:]+)\s*(.*)", text)
        parts, rest = match[1].split("."), operands(match[2])
        maker = getattr(self, "op_" + parts[0], None)
        if not maker:
            raise Unknown(text)
        try:
            made = maker(parts[1:], rest)
        except (Unknown, KeyError, IndexError, ValueError) as error:
            raise Unknown(f"{text} ({error})") from error
        self.emit(f"{guard}{{ {made} }}" if guard else made)

    def directive(self, text):
        match = re.match(r"\.reg\s*\.(\w+)\s+(.*)", text)
        if match:
            for name in operands(match[2]):
                many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name)
                names = [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name]
                for one in names:
                    self.declare(one, match[1])
                listed = ", ".join("R_" + word(one) for one in names)
                self.emit(f"{c_type(match[1])} {listed};")
            return
        match = re.match(r"\.local\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", text)
        if match:
            count = int(match[4] or 1) * bits(match[2]) // 8
            name = "V_" + word(match[3])
            self.scopes[-1][match[3]] = ("memory", name)
            self.emit(f"_Alignas(16) u8 {name}[{count}];")
            return
        match = re.match(r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", text)
        if match:
            count = int(match[4] or 1) * bits(match[2]) // 8
            name = "P_" + word(match[3])
            self.scopes[-1][match[3]] = ("param", name)
            self.emit(f"_Alignas(16) u8 {name}[{count}];")
            return
        if text.startswith((".shared", ".extern .shared")):
            return self.module.variable(text, self)
        if text.startswith(".pragma"):
            return
        raise Unknown(text)

    def body(self, source):
        """Consumes statements up to the brace that closes the function."""
        depth = 1
        for sort, text in source:
            if sort == "{":
                depth += 1
                self.scope_count += 1
                self.scopes.append({})
                self.labels.append({})
                self.emit("{")
            elif sort == "}":
                depth -= 1
                if depth == 0:
                    return
                self.scopes.pop()
                self.labels.pop()
                self.emit("}")
            elif sort == "label":
                if depth > 1:
                    self.labels[-1].setdefault(text, f"B_{self.scope_count}_{word(text)}")
                self.pending = text
                self.emit(f"{self.label(text)}:;")
            elif text.startswith(".branchtargets"):
                self.out.pop()
                self.tables[self.pending] = operands(text[len(".branchtargets"):])
            else:
                self.line(text)
        raise Unknown("a function without an end")
