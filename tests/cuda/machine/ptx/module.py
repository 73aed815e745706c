"""A module: its variables, functions and kernels."""
import re

from function import Function
from text import Unknown, bits, operands, statements, word


class Module:
    def __init__(self):
        self.symbols, self.functions, self.variables, self.shared = {}, {}, [], 0
        self.dynamic, self.entries = None, []

    def variable(self, text, function=None):
        match = re.match(r"(?:\.(?:visible|weak|extern|common)\s+)*\.(global|const|shared)\s+(?:\.attribute\S+\s+)?"
                         r"(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)((?:\[\d*\])*)\s*(?:=\s*(.*))?$", text)
        if not match:
            raise Unknown(text)
        space, align, kind, name, dims, value = match.groups()
        size = bits(kind) // 8
        sizes = re.findall(r"\[(\d*)\]", dims)
        count = 1
        for one in sizes:
            count *= int(one or 0)
        table = function.scopes[0] if function else self.symbols
        if space == "shared":
            if sizes and sizes[0] == "" or ".extern" in text:
                # All dynamic shared variables are the same memory, after the static ones.
                table[name] = ("shared", "L->dynamic_at")
                return
            align = int(align or size)
            self.shared = (self.shared + align - 1) // align * align
            table[name] = ("shared", str(self.shared))
            self.shared += size * count
            return
        if value and value.startswith("{"):
            value = re.sub(r"0[fF]([0-9a-fA-F]{8})", r"0x\1", value)
            if re.search(r"[A-Za-z_$]{2}", value.replace("0x", "")):
                raise Unknown(text)
        elif value:
            value = "{" + re.sub(r"0[fFdD]([0-9a-fA-F]+)", r"0x\1", value) + "}"
        self.symbols[name] = ("memory", "V_" + word(name))
        self.variables.append(f"static _Alignas({max(int(align or size), 16)}) u{bits(kind)} V_{word(name)}"
                              f"[{max(count, 1)}]{' = ' + value if value else ''};")

    def parameters(self, text):
        """(name, kind, bytes) of each parameter of a header."""
        found = []
        for one in operands(text):
            match = re.match(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(?:\s+\.ptr\S*(?:\s+\.\w+)*(?:\s+\.align\s+\d+)?)?"
                             r"(?:\s+\.align\s+\d+)?\s+([\w$]+)(?:\[(\d+)\])?$", one)
            if not match:
                raise Unknown(one)
            found.append((match[2], match[1], bits(match[1]) // 8 * int(match[3] or 1)))
        return found

    def function(self, header, source):
        match = re.match(r"(?:\.(?:visible|weak)\s+)*\.(entry|func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*"
                         r"(?:\(([^)]*)\))?(.*)$", header)
        if not match:
            raise Unknown(header)
        entry = match[1] == "entry"
        made = Function(self, match[3], entry)
        returned, given = self.parameters(match[2] or ""), self.parameters(match[4] or "")
        for at, (name, kind, size) in enumerate(returned + given):
            made.scopes[0][name] = ("param", f"args[{at}]" if entry else "P_" + word(name))
        made.body(source)
        if entry:
            head = f"static void F_{word(match[3])}(Lane *L, u8 **args)"
            threads = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", match[5])
            limit = 1
            for one in (threads.groups() if threads else ("1024",)):
                limit *= int(one or 1)
            self.entries.append((match[3], len(given), limit, made))
        else:
            listed = "".join(f", u8 *P_{word(name)}" for name, _, _ in returned + given)
            head = f"static void F_{word(match[3])}(Lane *L{listed})"
        self.functions[match[3]] = made
        made.text = head + " {\nu32 carry = 0; (void)carry;\n" + "\n".join(made.out) + "\n}\n"

    def translate(self, text):
        source = statements(re.sub(r"(?m)^\s*\.(version|target|address_size)\b.*$", "", text))
        for sort, line in source:
            if sort == "head":
                self.function(line, source)
            elif sort != "line":
                raise Unknown(f"{sort} {line}")
            elif line.startswith((".extern .func", ".func", ".visible .func", ".weak .func", ".pragma")):
                continue  # a declaration
            else:
                self.variable(line)
        out = ['#include "device.h"', *self.variables]
        out += [made.text for made in self.functions.values()]
        out.append("const struct ptx_kernel ptx_kernels[] = {")
        for name, count, limit, made in self.entries:
            out.append(f'    {{"{name}", F_{word(name)}, {int(made.fibers)}, {self.shared}, {count}, {limit}}},')
        out.append("    {0}};")
        return "\n".join(out) + "\n"
