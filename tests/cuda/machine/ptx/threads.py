"""Control flow, and instructions that the threads of a warp or a block do together."""
import re

from text import Unknown, operands, word


class Threads:
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
