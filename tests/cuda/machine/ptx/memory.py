"""Instructions that move data: registers, loads, stores, atomics, asynchronous copies, mbarriers."""
import re

from text import HALVES, SIZES, Unknown, bits, c_type, operands


class Memory:
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
        made = f"atomic_{names[0]}_{suffix}(({held} *){self.place(parts, args[0], kind)}, {', '.join(values)})"
        return self.write(to, kind, made) if to else f"(void){made};"

    def op_atom(self, parts, args):
        return self.atomic(parts, args[1:], args[0])

    def op_red(self, parts, args):
        return self.atomic(parts, args, None)

    # copies and barriers of Ampere and later

    def op_cp(self, parts, args):
        if parts[0] != "async":
            raise Unknown("form")
        if "bulk" in parts and "commit_group" not in parts and "wait_group" not in parts:
            if "tensor" in parts or not parts[2].startswith("shared") or "global" not in parts:
                raise Unknown("form")
            size = self.read(args[2], "u32")
            barrier = f"shared_at(L, {self.address(args[3][1:-1])}, 8)"
            to = f"shared_at(L, {self.address(args[0][1:-1])}, 16)"
            return f"copy_bulk(L, {to}, {self.address(args[1][1:-1])}, {size}, {barrier});"
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
            if "noComplete" in parts:
                raise Unknown("form")
            at = f"shared_at(L, {self.address(place[1:-1])}, 8)"
            made = ""
            if "expect_tx" in parts:
                made, count = f"mbarrier_bytes({at}, {count}); ", "1"
            made += f"u64 s = mbarrier_arrive(L, {at}, {count}); "
            return f"{{ {made}{self.write(to, 'u64', 's')} }}"
        if what == "expect_tx":
            return f"mbarrier_bytes(shared_at(L, {self.address(args[0][1:-1])}, 8), {self.read(args[1], 'u32')});"
        if what in ("test_wait", "try_wait"):
            place = self.address(args[1][1:-1])
            test = "mbarrier_done_parity" if "parity" in parts else "mbarrier_done"
            kind = "u32" if "parity" in parts else "u64"
            # A waiting lane lets the others run before it looks again.
            made = f"u8 d = {test}(shared_at(L, {place}, 8), {self.read(args[2], kind)}); if (!d) L->poll(L); "
            return f"{{ {made}{self.write(args[0], 'pred', 'd')} }}"
        raise Unknown("kind")
