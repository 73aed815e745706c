#!/usr/bin/env python3
"""PTX to C: what NVRTC made of a kernel becomes a C function per entry point, run by launch.c on
the CPU, one call (or one fiber) per thread of a block. Only what NVRTC emits for the kernels of
this project and of CubeCL is known; anything else ends with the instruction that is missing.

    ptx.py < kernel.ptx > kernel.c        (device.h beside this file holds the run-time half)

Instructions and their meaning: NVIDIA, Parallel Thread Execution ISA 8.8, chapters 5 to 9.
Compute with `.approx` is done with the C library's functions, closer than the GPU's; the PTX is
taken literally, so nothing is contracted to a fused multiply-add that is not written as one.
"""
import re
import sys

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


class Function:
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
        match = re.match(r"\.reg\s+\.(\w+)\s+(.*)", text)
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

    def op_mov(self, parts, args):
        kind = parts[-1]
        to, source = args
        if to.startswith("{"):
            names = operands(to[1:-1])
            width = bits(kind) // len(names)
            made = f"u{bits(kind)} t = {self.read(source, 'b%d' % bits(kind))}; "
            for at, name in enumerate(names):
                made += self.write(name, f"b{width}", f"(u{width})(t >> {at * width})") + " "
            return f"{{ {made}}}"
        if source.startswith("{"):
            names = operands(source[1:-1])
            width = bits(kind) // len(names)
            value = " | ".join(f"((u{bits(kind)}){self.read(name, 'b%d' % width)} << {at * width})"
                               for at, name in enumerate(names))
            return self.write(to, f"b{bits(kind)}", f"({value})")
        return self.write(to, kind, self.read(source, kind))

    # memory

    def space(self, parts):
        for part in parts:
            if part.startswith("shared"):
                return "shared"
        return "generic"

    def place(self, parts, text, kind, count=1):
        """The C pointer expression of a memory operand, checked for alignment (and for its bounds
        where the memory is shared)."""
        at = self.address(text.strip()[1:-1])
        size = max(bits(kind) // 8, 1) * count
        if self.space(parts) == "shared":
            return f"shared_at(L, {at}, {size})"
        return f"memory_at(L, {at}, {size})"

    def vector(self, parts):
        return next((int(part[1:]) for part in parts if re.fullmatch(r"v[248]", part)), 1)

    def op_ld(self, parts, args):
        kind, count = parts[-1], self.vector(parts)
        names = operands(args[0][1:-1]) if args[0].startswith("{") else [args[0]]
        held = c_type(kind)
        made = f"const {held} *m = (const {held} *){self.place(parts, args[1], kind, count)}; "
        # All elements are read before one is written: the address may be one of them.
        made += " ".join(f"{held} e{at} = m[{at}];" for at in range(count)) + " "
        for at, name in enumerate(names):
            if name != "_":
                made += self.widen(name, kind, f"e{at}") + " "
        return f"{{ {made}}}"

    op_ldu = op_ld

    def widen(self, name, kind, value):
        """A loaded or converted value in a register that may be wider: sign- or zero-extended."""
        have = c_type(self.find(name)[1])
        if kind[0] == "s" and have[0] == "u" and SIZES[have[1:]] * 8 > bits(kind):
            value = f"(s{have[1:]}){value}"
        return self.write(name, kind, value)

    def op_st(self, parts, args):
        kind, count = parts[-1], self.vector(parts)
        names = operands(args[1][1:-1]) if args[1].startswith("{") else [args[1]]
        held = c_type(kind)
        made = f"{held} *m = ({held} *){self.place(parts, args[0], kind, count)}; "
        made += " ".join(f"m[{at}] = {self.read(name, kind)};" for at, name in enumerate(names))
        return f"{{ {made} }}"

    def nothing(self, parts, args):
        return ";"

    op_prefetch = op_prefetchu = op_griddepcontrol = op_discard = op_nanosleep = op_applypriority = nothing

    def op_membar(self, parts, args):
        return "__atomic_thread_fence(__ATOMIC_SEQ_CST);"

    op_fence = op_membar

    def op_cvta(self, parts, args):
        value = self.read(args[1], "u64")
        if self.space(parts) == "shared":
            value = f"({value} - (u64)L->shared)" if parts[0] == "to" else f"({value} + (u64)L->shared)"
        return self.write(args[0], "u64", value)

    def op_isspacep(self, parts, args):
        inside = f"({self.read(args[1], 'u64')} - (u64)L->shared < L->shared_bytes)"
        if self.space(parts) != "shared":
            inside = f"!{inside}" if parts[0] == "global" else "0"
        return self.write(args[0], "pred", inside)

    def op_mapa(self, parts, args):
        return self.write(args[0], parts[-1], self.read(args[1], parts[-1]))

    def atomic(self, parts, args, to):
        kind = parts[-1]
        names = [part for part in parts if part in ("add", "exch", "cas", "min", "max", "and", "or",
                                                    "xor", "inc", "dec")]
        held = c_type(kind)
        values = [self.read(arg, kind) for arg in args[1:]]
        suffix = kind if kind in HALVES or kind.endswith("x2") else held
        if held == f"u{bits(kind)}" and names[0] in ("add", "exch", "cas", "and", "or", "xor") and kind[0] == "b":
            suffix = held
        made = f"atomic_{names[0]}_{suffix}(({held} *){self.place(parts, args[0], kind)}, {', '.join(values)})"
        return self.write(to, kind, made) if to else f"(void){made};"

    def op_atom(self, parts, args):
        return self.atomic(parts, args[1:], args[0])

    def op_red(self, parts, args):
        return self.atomic(parts, args, None)

    # whole numbers

    def binary(self, parts, args, sign):
        kind = parts[-1]
        return self.write(args[0], kind,
                          f"({c_type(kind)})({self.read(args[1], kind)} {sign} {self.read(args[2], kind)})")

    def call(self, name, parts, args, kind=None):
        kind = kind or parts[-1]
        read = ", ".join(self.read(arg, kind) for arg in args[1:])
        return self.write(args[0], kind, f"{name}_{kind}({read})")

    def float_parts(self, parts, args, name):
        """add, sub, mul and fma of floats: rounding, saturation and half types."""
        kind = parts[-1]
        read = ", ".join(self.read(arg, kind) for arg in args[1:])
        mode = next((part for part in parts if part in ("rz", "rm", "rp")), "")
        value = f"{name}_{kind}{'_' + mode if mode else ''}({read})"
        if "ftz" in parts and kind == "f32":
            value = f"flush({value})"
        if "sat" in parts:
            value = f"saturate_{kind}({value})"
        if "relu" in parts:
            value = f"relu_{kind}({value})"
        return self.write(args[0], kind, value)

    def arithmetic(self, parts, args, name, sign):
        kind = parts[-1]
        if kind[0] == "f" or kind.startswith("bf"):
            return self.float_parts(parts, args, name)
        if "cc" in parts:
            self.module.carry = True
            return self.write(args[0], kind, f"{name}_carry_{c_type(kind)}(&carry, {self.read(args[1], kind)}, "
                                             f"{self.read(args[2], kind)})")
        if "sat" in parts:
            return self.call(name + "_sat", parts, args)
        return self.binary(parts, args, sign)

    def op_add(self, parts, args):
        return self.arithmetic(parts, args, "add", "+")

    def op_sub(self, parts, args):
        return self.arithmetic(parts, args, "sub", "-")

    def with_carry(self, parts, args, name):
        keep = "&carry" if "cc" in parts else "&(u32){carry}"
        kind = "u%d" % bits(parts[-1])
        return self.write(args[0], kind, f"{name}_{kind}({keep}, {self.read(args[1], kind)}, "
                                         f"{self.read(args[2], kind)})")

    def op_addc(self, parts, args):
        return self.with_carry(parts, args, "addc")

    def op_subc(self, parts, args):
        return self.with_carry(parts, args, "subc")

    def product(self, parts, args):
        """mul and the product of mad as (type of the result, expression)."""
        kind = parts[-1]
        left, right = self.read(args[1], kind), self.read(args[2], kind)
        wide = kind[0] + str(2 * bits(kind))
        big = {"s128": "__int128", "u128": "unsigned __int128"}.get(wide, wide)
        if "wide" in parts:
            return wide, f"(({big}){left} * ({big}){right})"
        if "hi" in parts:
            return kind, f"({kind})((({big}){left} * ({big}){right}) >> {bits(kind)})"
        unsigned = f"u{max(bits(kind), 32)}"
        return kind, f"({kind})(({unsigned}){left} * ({unsigned}){right})"

    def op_mul(self, parts, args):
        if parts[-1][0] in "fb":
            return self.float_parts(parts, args, "mul")
        kind, value = self.product(parts, args)
        return self.write(args[0], kind, value)

    def op_mad(self, parts, args):
        if parts[-1][0] in "fb":
            return self.float_parts(parts, args, "fma")
        kind, value = self.product(parts, args)
        if "cc" in parts:
            unsigned = "u%d" % bits(kind)
            return self.write(args[0], unsigned, f"add_carry_{unsigned}(&carry, ({unsigned}){value}, "
                                                 f"{self.read(args[3], unsigned)})")
        return self.write(args[0], kind, f"({kind})({value} + {self.read(args[3], kind)})")

    def op_madc(self, parts, args):
        kind, value = self.product(parts, args)
        unsigned = "u%d" % bits(kind)
        keep = "&carry" if "cc" in parts else "&(u32){carry}"
        return self.write(args[0], unsigned, f"addc_{unsigned}({keep}, ({unsigned}){value}, "
                                             f"{self.read(args[3], unsigned)})")

    def op_mul24(self, parts, args):
        return self.op_mul(parts, args)

    def op_mad24(self, parts, args):
        return self.op_mad(parts, args)

    def op_fma(self, parts, args):
        return self.float_parts(parts, args, "fma")

    def op_div(self, parts, args):
        return self.float_parts(parts, args, "div") if parts[-1][0] == "f" else self.call("divide", parts, args)

    def op_rem(self, parts, args):
        return self.call("remainder", parts, args)

    def op_neg(self, parts, args):
        return self.call("neg", parts, args)

    def op_abs(self, parts, args):
        return self.call("abs", parts, args)

    def extreme(self, parts, args, name):
        return self.call(name + ("_nan" if "NaN" in parts else ""), parts, args)

    def op_min(self, parts, args):
        return self.extreme(parts, args, "min")

    def op_max(self, parts, args):
        return self.extreme(parts, args, "max")

    def op_and(self, parts, args):
        return self.binary(parts, args, "&")

    def op_or(self, parts, args):
        return self.binary(parts, args, "|")

    def op_xor(self, parts, args):
        return self.binary(parts, args, "^")

    def op_not(self, parts, args):
        sign = "!" if parts[-1] == "pred" else "~"
        kind = parts[-1]
        return self.write(args[0], kind, f"({c_type(kind)}){sign}{self.read(args[1], kind)}")

    def op_cnot(self, parts, args):
        return self.write(args[0], parts[-1], f"({self.read(args[1], parts[-1])} == 0)")

    def shift(self, parts, args, sign):
        kind = parts[-1]
        width, by = bits(kind), self.read(args[2], "u32")
        value = self.read(args[1], kind)
        if kind[0] == "s":
            made = f"({kind})({value} {sign} ({by} > {width - 1} ? {width - 1} : {by}))"
        else:
            held = c_type(kind)
            made = f"({by} > {width - 1} ? ({held})0 : ({held})({value} {sign} {by}))"
        return self.write(args[0], kind, made)

    def op_shl(self, parts, args):
        return self.shift(["b%d" % bits(parts[-1])], args, "<<")

    def op_shr(self, parts, args):
        return self.shift(parts, args, ">>")

    def op_shf(self, parts, args):
        by = self.read(args[3], "u32")
        by = f"({by} & 31)" if "wrap" in parts else f"({by} > 32 ? 32 : {by})"
        both = f"(((u64){self.read(args[2], 'u32')} << 32) | {self.read(args[1], 'u32')})"
        made = f"(u32)({both} >> {by})" if parts[0] == "r" else f"(u32)(({both} << {by}) >> 32)"
        return self.write(args[0], "u32", made)

    def op_popc(self, parts, args):
        return self.write(args[0], "u32", f"(u32)__builtin_popcountll({self.read(args[1], parts[-1])})")

    def op_clz(self, parts, args):
        return self.write(args[0], "u32", f"clz_{parts[-1]}({self.read(args[1], parts[-1])})")

    def op_brev(self, parts, args):
        return self.call("brev", parts, args)

    def op_bfind(self, parts, args):
        kind = parts[-1]
        shift = "_shift" if "shiftamt" in parts else ""
        return self.write(args[0], "u32", f"bfind{shift}_{kind}({self.read(args[1], kind)})")

    def op_bfe(self, parts, args):
        kind = parts[-1]
        return self.write(args[0], kind, f"bfe_{kind}({self.read(args[1], kind)}, {self.read(args[2], 'u32')}, "
                                         f"{self.read(args[3], 'u32')})")

    def op_bfi(self, parts, args):
        kind = parts[-1]
        return self.write(args[0], kind, f"bfi_{kind}({self.read(args[1], kind)}, {self.read(args[2], kind)}, "
                                         f"{self.read(args[3], 'u32')}, {self.read(args[4], 'u32')})")

    def op_prmt(self, parts, args):
        if len(parts) > 1:
            raise Unknown("mode")
        return self.call("prmt", parts, args, "b32")

    def op_lop3(self, parts, args):
        return self.call("lop3", parts, args, "b32")

    def op_sad(self, parts, args):
        return self.call("sad", parts, args)

    def op_dp4a(self, parts, args):
        return self.write(args[0], "s32", f"dp4a_{parts[0]}_{parts[1]}({self.read(args[1], 'u32')}, "
                                          f"{self.read(args[2], 'u32')}, {self.read(args[3], 's32')})")

    # floats

    def unary(self, parts, args, name):
        kind = parts[-1]
        return self.write(args[0], kind, f"{name}_{kind}({self.read(args[1], kind)})")

    def op_rcp(self, parts, args):
        return self.unary(parts, args, "rcp")

    def op_sqrt(self, parts, args):
        return self.unary(parts, args, "sqrt")

    def op_rsqrt(self, parts, args):
        return self.unary(parts, args, "rsqrt")

    def op_sin(self, parts, args):
        return self.unary(parts, args, "sin")

    def op_cos(self, parts, args):
        return self.unary(parts, args, "cos")

    def op_lg2(self, parts, args):
        return self.unary(parts, args, "lg2")

    def op_ex2(self, parts, args):
        return self.unary(parts, args, "ex2")

    def op_tanh(self, parts, args):
        return self.unary(parts, args, "tanh")

    def op_copysign(self, parts, args):
        return self.call("copysign", parts, args)

    def op_testp(self, parts, args):
        kind = parts[-1]
        return self.write(args[0], "pred", f"testp_{parts[0]}_{kind}({self.read(args[1], kind)})")

    def op_cvt(self, parts, args):
        to, source = parts[-2], parts[-1]
        if to in ("f16x2", "bf16x2"):
            half = to[:-2]
            relu = "relu_" if "relu" in parts else ""
            if "rn" not in parts:
                raise Unknown("rounding")
            high, low = (f"{half}_from_f32({self.read(arg, 'f32')})" for arg in args[1:3])
            if relu:
                high, low = f"relu_{half}({high})", f"relu_{half}({low})"
            return self.write(args[0], "b32", f"(((u32){high} << 16) | {low})")
        if to == "tf32":
            return self.write(args[0], "b32", f"tf32_from_f32({self.read(args[1], 'f32')})")
        value = self.read(args[1], source)
        mode = next((part for part in parts[:-2] if part in
                     ("rn", "rz", "rm", "rp", "rni", "rzi", "rmi", "rpi", "rna")), "")
        is_float = lambda kind: kind[0] == "f" or kind == "bf16"
        if is_float(source) and is_float(to):
            value = self.float_to_float(value, source, to, mode)
            if "ftz" in parts and to == "f32":
                value = f"flush({value})"
            if "sat" in parts:
                value = f"saturate_{to}({value})"
            if "relu" in parts:
                value = f"relu_{to}({value})"
        elif is_float(source):
            if source in HALVES:
                value = f"f32_from_{source}({value})"
                source = "f32"
            value = f"{to}_from_float((f64){value}, {mode[1] if len(mode) > 1 else 'z'!r})".replace('"', "'")
        elif is_float(to):
            value = f"{to}_from_{source[0]}64({value})" if mode in ("rn", "") else \
                f"{to}_from_{source[0]}64_{mode}({value})"
        elif "sat" in parts:
            value = f"saturate_{to}_from_{source[0]}64({value})"
        else:
            value = f"({c_type(to)}){value}"
        return self.widen(args[0], to, value)

    def float_to_float(self, value, source, to, mode):
        if mode.endswith("i"):
            if source != to:
                raise Unknown("rounding to a whole number of another type")
            return f"round_{mode}_{to}({value})"
        if source == to:
            return value
        if source in HALVES:
            value, source = f"f32_from_{source}({value})", "f32"
        if source == to:
            return value
        if to in HALVES:
            if source == "f64":
                return f"{to}_from_f64({value})"
            return f"{to}_from_f32{'_' + mode if mode in ('rz', 'rm', 'rp') else ''}({value})"
        if source == "f64" and mode in ("rz", "rm", "rp"):
            return f"f32_from_f64_{mode}({value})"
        return f"({to}){value}"

    def compare(self, how, kind, left, right):
        if kind in HALVES:
            left, right = f"f32_from_{kind}({left})", f"f32_from_{kind}({right})"
        signs = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<",
                 "ls": "<=", "hi": ">", "hs": ">="}
        is_float = kind[0] == "f" or kind == "bf16"
        if how in signs:
            if is_float and how == "ne":  # false when one is not a number
                return f"(({left} < {right}) | ({left} > {right}))"
            return f"({left} {signs[how]} {right})"
        if how == "num":
            return f"(({left} == {left}) & ({right} == {right}))"
        if how == "nan":
            return f"(({left} != {left}) | ({right} != {right}))"
        opposite = {"equ": "((%s < %s) | (%s > %s))", "neu": "(%s == %s)", "ltu": "(%s >= %s)",
                    "leu": "(%s > %s)", "gtu": "(%s <= %s)", "geu": "(%s < %s)"}[how]
        return "!" + (opposite % ((left, right) * (opposite.count("%s") // 2)))

    def op_setp(self, parts, args):
        kind = parts[-1]
        made = self.compare(parts[0], kind, self.read(args[1], kind), self.read(args[2], kind))
        joins = {"and": "&", "or": "|", "xor": "^"}
        join = next((part for part in parts[1:-1] if part in joins), None)
        first, _, second = args[0].partition("|")
        out = f"u8 t = {made}; "
        other = self.read(args[3], "pred") if join else ""
        out += self.write(first.strip(), "pred", f"(t {joins[join]} {other})" if join else "t")
        if second:
            out = f"u8 o = {other or 0}; " + out.replace(f"& {other})", "& o)") if join else out
            out += " " + self.write(second.strip(), "pred", f"(!t {joins[join]} o)" if join else "!t")
        return f"{{ {out} }}"

    def op_set(self, parts, args):
        kind, to = parts[-1], parts[-2]
        if kind.endswith("x2"):
            half = kind[:-2]
            return self.write(args[0], "b32", f"set_{parts[0]}_{kind}({self.read(args[1], 'b32')}, "
                                              f"{self.read(args[2], 'b32')})")
        made = self.compare(parts[0], kind, self.read(args[1], kind), self.read(args[2], kind))
        yes = {"f32": "1.0f", "f16": "0x3c00", "bf16": "0x3f80"}.get(to, "0xffffffffu")
        return self.write(args[0], to, f"({c_type(to)})({made} ? {yes} : 0)")

    def op_selp(self, parts, args):
        kind = parts[-1]
        return self.write(args[0], kind, f"({self.read(args[3], 'pred')} ? {self.read(args[1], kind)} : "
                                         f"{self.read(args[2], kind)})")

    def op_slct(self, parts, args):
        kind, test = parts[-2], parts[-1]
        return self.write(args[0], kind, f"({self.read(args[3], test)} >= 0 ? {self.read(args[1], kind)} : "
                                         f"{self.read(args[2], kind)})")

    # control

    def label(self, name):
        for scope in reversed(self.labels):
            if name in scope:
                return scope[name]
        return "B_" + word(name)

    def op_bra(self, parts, args):
        return f"goto {self.label(args[0])};"

    def op_brx(self, parts, args):
        cases = " ".join(f"case {at}: goto {self.label(to)};" for at, to in enumerate(self.tables[args[1]]))
        return f"switch ({self.read(args[0], 'u32')}) {{ {cases} default: __builtin_unreachable(); }}"

    def op_ret(self, parts, args):
        return "return;"

    def op_exit(self, parts, args):
        return "return;" if self.entry else "L->leave(L);"

    def op_trap(self, parts, args):
        return "L->trap(L, \"trap\");"

    op_brkpt = op_trap

    def op_call(self, parts, args):
        text = ", ".join(args)
        match = re.fullmatch(r"(?:\(([^)]*)\)\s*,\s*)?([\w$]+)(?:\s*,\s*\(([^)]*)\))?.*", text)
        if not match:
            raise Unknown("form")
        outs, name, ins = (match[1] or ""), match[2], (match[3] or "")
        if name == "vprintf":
            return "L->print(L, *(char **)P_param0, *(u8 **)P_param1);"
        if name == "__assertfail":
            return "L->trap(L, *(char **)P_param0);"
        if name not in self.module.functions:
            raise Unknown(f"function {name}")
        self.fibers = self.fibers or self.module.functions[name].fibers
        given = ["P_" + word(one.strip()) for one in (outs + "," + ins).split(",") if one.strip()]
        return f"F_{word(name)}(L, {', '.join(given)});" if given else f"F_{word(name)}(L);"

    # threads together

    def together(self, name, setup=""):
        """An instruction of the whole warp: the last lane to come computes it for all."""
        self.fibers = True
        return f"{setup} L->together(L, {name}); "

    def op_bar(self, parts, args):
        self.fibers = True
        if "warp" in parts:
            return f"L->mask = {self.read(args[0], 'u32')}; " + self.together("collect_nothing")
        if parts[0] in ("cta", "sync") or "sync" in parts:
            count = self.read(args[1], "u32") if len(args) > 1 else "0"
            return f"L->barrier(L, {self.read(args[0], 'u32')}, {count});"
        if "red" in parts:
            how = parts[parts.index("red") + 1]
            if len(args) > 3:
                raise Unknown("a count")
            source = args[2]
            value = self.read(source, "pred")
            kind = parts[-1]
            return (f"L->barrier_red(L, {self.read(args[1], 'u32')}, {value}); "
                    + self.write(args[0], kind, f"L->reduced_{how}"))
        raise Unknown("kind")

    op_barrier = op_bar

    def op_activemask(self, parts, args):
        self.fibers = True
        self.scope_count += 1
        return f"L->active(L, {self.scope_count}); " + self.write(args[0], "u32", "L->mask")

    def op_elect(self, parts, args):
        first, _, second = args[0].partition("|")
        made = f"L->mask = {self.read(args[1], 'u32')}; " + self.together("collect_nothing")
        made += self.write(first.strip(), "u32", "(u32)__builtin_ctz(L->mask)") + " "
        return made + self.write(second.strip(), "pred", "((u32)__builtin_ctz(L->mask) == L->lane)")

    def op_shfl(self, parts, args):
        first, _, second = args[0].partition("|")
        made = f"L->mask = {self.read(args[4], 'u32')}; L->a[0] = {self.read(args[1], 'b32')}; "
        made += f"L->a[1] = {self.read(args[2], 'u32')}; L->a[2] = {self.read(args[3], 'u32')}; "
        made += self.together(f"collect_shfl_{parts[1]}") + self.write(first.strip(), "b32", "L->r[0]")
        return made + (" " + self.write(second.strip(), "pred", "(u8)L->r[1]") if second else "")

    def op_vote(self, parts, args):
        how = parts[1]
        made = f"L->mask = {self.read(args[2], 'u32')}; L->a[0] = {self.read(args[1], 'pred')}; "
        made += self.together(f"collect_vote_{how}")
        return made + self.write(args[0], "b32" if how == "ballot" else "pred", "L->r[0]")

    def op_match(self, parts, args):
        kind = parts[-1]
        first, _, second = args[0].partition("|")
        made = f"L->mask = {self.read(args[2], 'u32')}; L->w = {self.read(args[1], kind)}; "
        made += self.together(f"collect_match_{parts[0]}") + self.write(first.strip(), "b32", "L->r[0]")
        return made + (" " + self.write(second.strip(), "pred", "(u8)L->r[1]") if second else "")

    def op_redux(self, parts, args):
        made = f"L->mask = {self.read(args[2], 'u32')}; L->a[0] = {self.read(args[1], 'b32')}; "
        kind = "u32" if parts[-1] == "b32" else parts[-1]
        return made + self.together(f"collect_redux_{parts[1]}_{kind}") + self.write(args[0], "b32", "L->r[0]")

    def registers(self, text, kind="b32"):
        return [self.read(one, kind) for one in operands(text[1:-1] if text.startswith("{") else text)]

    def gather(self, field, values):
        return " ".join(f"L->{field}[{at}] = {value};" for at, value in enumerate(values)) + " "

    def scatter(self, text, kind="b32", field="r"):
        names = operands(text[1:-1] if text.startswith("{") else text)
        get = f"as_f32(L->{field}[%d])" if kind == "f32" else f"L->{field}[%d]"
        return " ".join(self.write(name, kind, get % at) for at, name in enumerate(names))

    def op_mma(self, parts, args):
        shape = next(part for part in parts if re.fullmatch(r"m\d+n\d+k\d+", part))
        types = parts[-4:] if parts[-1] in ("f32", "f16", "s32") else parts[-5:]
        result, left, right, added = types[:4]
        if "row" not in parts or "col" not in parts or result != "f32" or added != "f32" or left != right:
            raise Unknown("form")
        made = "L->mask = ~0u; " + self.gather("a", self.registers(args[1])) + self.gather("b", self.registers(args[2]))
        made += self.gather("c", self.registers(args[3]))
        return made + self.together(f"collect_mma_{shape}_{left}") + self.scatter(args[0])

    def op_ldmatrix(self, parts, args):
        if "b16" not in parts or "m8n8" not in parts:
            raise Unknown("form")
        count = next(part for part in parts if re.fullmatch(r"x[124]", part))[1:]
        at = self.address(args[1][1:-1])
        where = f"shared_at(L, {at}, 16)" if self.space(parts) == "shared" else f"memory_at(L, {at}, 16)"
        need = int(count) * 8
        made = f"L->mask = ~0u; L->p = L->lane < {need} ? (u8 *){where} : 0; L->n = {count}; "
        return made + self.together("collect_ldmatrix" + ("_trans" if "trans" in parts else "")) + self.scatter(args[0])

    def op_stmatrix(self, parts, args):
        if "b16" not in parts or "m8n8" not in parts:
            raise Unknown("form")
        count = next(part for part in parts if re.fullmatch(r"x[124]", part))[1:]
        where = f"shared_at(L, {self.address(args[0][1:-1])}, 16)"
        made = f"L->mask = ~0u; L->p = L->lane < {int(count) * 8} ? (u8 *){where} : 0; L->n = {count}; "
        made += self.gather("a", self.registers(args[1]))
        return made + self.together("collect_stmatrix" + ("_trans" if "trans" in parts else ""))

    def op_wmma(self, parts, args):
        shape = next(part for part in parts if re.fullmatch(r"m\d+n\d+k\d+", part))
        kind = parts[-1]
        if parts[0] == "mma":
            rows = [part for part in parts if part in ("row", "col")]
            # d.c, or d.a.b.c where a is not f16; the layouts are gone once a matrix is loaded.
            tail = parts[parts.index(shape) + 1:]
            left = tail[1] if len(tail) == 4 else "f16"
            if tail[0] != tail[-1] or len(rows) != 2 or tail[0] not in ("f32", "f16"):
                raise Unknown("form")
            made = "L->mask = ~0u; " + self.gather("a", self.registers(args[1])) + self.gather("b", self.registers(args[2]))
            made += self.gather("c", self.registers(args[3]))
            return made + self.together(f"collect_wmma_{shape}_{left}_{tail[0]}") + self.scatter(args[0])
        which, layout = parts[1], next(part for part in parts if part in ("row", "col"))
        # A memory operand, its leading dimension in elements (given as an operand).
        store = parts[0] == "store"
        place, values, stride = (args[0], args[1], args[2]) if store else (args[1], args[0], args[2])
        at = self.address(place[1:-1])
        where = f"(u8 *)L->shared + {at}" if self.space(parts) == "shared" else f"(u8 *){at}"
        made = f"L->mask = ~0u; L->p = {where}; L->n = {self.read(stride, 'u32')}; "
        name = f"wmma_{parts[0]}_{which}_{shape}_{kind}_{layout}"
        if store:
            return made + self.gather("a", self.registers(values)) + f"{name}(L); " + self.together("collect_nothing")
        return made + self.together("collect_nothing") + f"{name}(L); " + self.scatter(values)

    # copies and barriers of Ampere and later

    def op_cp(self, parts, args):
        if parts[0] != "async" or "bulk" in parts:
            raise Unknown("form")
        if "commit_group" in parts or "wait_group" in parts or "wait_all" in parts:
            return ";"
        if "mbarrier" in parts:
            # The copies have come; without noinc the arrival is one more that is also expected.
            if "noinc" not in parts:
                return ";"
            return f"mbarrier_arrive(L, shared_at(L, {self.address(args[0][1:-1])}, 8), 1);"
        size = self.read(args[2], "u32")
        from_bytes = self.read(args[3], "u32") if len(args) > 3 and not args[3].startswith("%rd") else size
        to = f"shared_at(L, {self.address(args[0][1:-1])}, {args[2]})"
        return f"copy_async(L, {to}, {self.address(args[1][1:-1])}, {size}, {from_bytes});"

    def op_mbarrier(self, parts, args):
        self.fibers = True
        what = parts[0]
        if what == "init":
            return f"mbarrier_init(shared_at(L, {self.address(args[0][1:-1])}, 8), {self.read(args[1], 'u32')});"
        if what == "inval":
            return ";"
        if what == "arrive":
            place = args[1] if len(args) > 1 and args[1].startswith("[") else args[0]
            to = args[0] if place is not args[0] else "_"
            count = self.read(args[2], "u32") if len(args) > 2 else "1"
            if "expect_tx" in parts or "noComplete" in parts:
                raise Unknown("form")
            made = f"u64 s = mbarrier_arrive(L, shared_at(L, {self.address(place[1:-1])}, 8), {count}); "
            return f"{{ {made}{self.write(to, 'u64', 's')} }}"
        if what in ("test_wait", "try_wait"):
            place = self.address(args[1][1:-1])
            test = "mbarrier_done_parity" if "parity" in parts else "mbarrier_done"
            kind = "u32" if "parity" in parts else "u64"
            # A waiting lane lets the others run before it looks again.
            made = f"u8 d = {test}(shared_at(L, {place}, 8), {self.read(args[2], kind)}); if (!d) L->poll(L); "
            return f"{{ {made}{self.write(args[0], 'pred', 'd')} }}"
        raise Unknown("kind")

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


def main():
    try:
        sys.stdout.write(Module().translate(sys.stdin.read()))
    except Unknown as error:
        sys.exit(f"ptx.py does not know: {error}")


if __name__ == "__main__":
    main()
