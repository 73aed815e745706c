"""Instructions that compute: whole numbers, floats, conversions, comparisons."""
from text import HALVES, Unknown, bits, c_type


class Arithmetic:
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
