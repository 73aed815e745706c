//! The kernels' text for one element type and head dimension. NVRTC gets one string, so that includes are
//! put in here; `tests/cuda/nvrtc.py` does the same.

use std::collections::BTreeSet;

/// What is in memory, in the words of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Element {
    Bf16,
    F32,
}

impl Element {
    fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "float",
        }
    }

    /// Threads of a block and the rows it owns: `Shape::THREADS` and `Shape::ROWS`.
    pub(super) fn block(self) -> (u32, usize) {
        match self {
            Self::Bf16 => (128, 64),
            Self::F32 => (64, 32),
        }
    }
}

/// Which of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    Forward,
    BackwardQuery,
    BackwardKey,
}

impl Pass {
    /// `ONLY` in the text.
    fn number(self) -> u32 {
        match self {
            Self::Forward => 1,
            Self::BackwardQuery => 2,
            Self::BackwardKey => 3,
        }
    }

    /// The kernel's name in the text.
    pub(super) fn entry(self) -> &'static str {
        match self {
            Self::Forward => "attention_forward_kernel",
            Self::BackwardQuery => "attention_backward_query_kernel",
            Self::BackwardKey => "attention_backward_key_kernel",
        }
    }
}

/// Head dimensions that `tests/cuda` has compiled and run.
pub(super) const HEAD_DIMS: [usize; 6] = [8, 16, 32, 64, 72, 128];

const MAIN: &str = "attention.cu";
const FILES: [(&str, &str); 9] = [
    (MAIN, include_str!("attention.cu")),
    ("backward_key.cuh", include_str!("backward_key.cuh")),
    ("backward_query.cuh", include_str!("backward_query.cuh")),
    ("forward.cuh", include_str!("forward.cuh")),
    ("plan.cuh", include_str!("plan.cuh")),
    ("product.cuh", include_str!("product.cuh")),
    ("ptx.cuh", include_str!("ptx.cuh")),
    ("shape.cuh", include_str!("shape.cuh")),
    ("tile.cuh", include_str!("tile.cuh")),
];

/// The whole text: macros, then `attention.cu` with each file it includes where it is first included.
///
/// No two kernels have the same text: CubeCL keeps what it compiled by it too, and would take one for the
/// other.
pub(super) fn text(pass: Pass, element: Element, head_dim: usize) -> String {
    let mut text = format!(
        "#define ELEMENT {}\n#define HEAD_DIM {head_dim}\n#define ONLY {}\n",
        element.name(),
        pass.number()
    );
    inline(MAIN, &mut BTreeSet::new(), &mut text);
    text
}

/// Of all files: changes when any of them does.
pub(super) fn fingerprint() -> u64 {
    fnv(FILES.iter().flat_map(|(_, text)| text.bytes()))
}

/// FNV-1a, 64 bits: the same in each build and run.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn inline(name: &'static str, seen: &mut BTreeSet<&'static str>, text: &mut String) {
    if !seen.insert(name) {
        return;
    }
    for line in file(name).lines() {
        match included(line) {
            Some(name) => inline(name, seen, text),
            None if line == "#pragma once" => {}
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
}

fn included(line: &'static str) -> Option<&'static str> {
    line.strip_prefix("#include \"")?.strip_suffix('"')
}

fn file(name: &str) -> &'static str {
    let found = FILES.iter().find(|(known, _)| *known == name);
    found
        .expect("every included file is in the list, as a test shows")
        .1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_whole_and_holds_each_file_once() {
        let cases = [
            (Pass::Forward, Element::Bf16, HEAD_DIMS[0]),
            (Pass::BackwardKey, Element::F32, HEAD_DIMS[5]),
        ];
        for (pass, element, head_dim) in cases {
            let text = text(pass, element, head_dim);
            let (name, only) = (element.name(), pass.number());
            let macros = format!(
                "#define ELEMENT {name}\n#define HEAD_DIM {head_dim}\n#define ONLY {only}\n"
            );
            assert!(text.starts_with(&macros));
            assert!(!text.contains("#include") && !text.contains("#pragma once"));
            let kept = |line: &&str| !line.starts_with("#include") && *line != "#pragma once";
            let lines = |text: &str| text.lines().filter(kept).count();
            let all: usize = FILES.iter().map(|(_, text)| lines(text)).sum();
            assert_eq!(
                text.lines().count(),
                all + 3,
                "a file is missing or there twice"
            );
            for pass in PASSES {
                let name = format!("{}(", pass.entry());
                assert_eq!(text.matches(&name).count(), 1, "{name}");
                let only = format!("ONLY == {}\nextern", pass.number());
                let before = text.split(&name).next().expect("a text before it");
                assert!(
                    before
                        .rsplit("#if")
                        .next()
                        .is_some_and(|near| near.contains(&only))
                );
            }
        }
    }

    const PASSES: [Pass; 3] = [Pass::Forward, Pass::BackwardQuery, Pass::BackwardKey];

    /// CubeCL takes kernels of the same text for the same kernel.
    #[test]
    fn no_two_kernels_have_the_same_text() {
        let mut texts = BTreeSet::new();
        for pass in PASSES {
            for element in [Element::Bf16, Element::F32] {
                for head_dim in HEAD_DIMS {
                    assert!(texts.insert(text(pass, element, head_dim)));
                }
            }
        }
    }

    #[test]
    fn the_fingerprint_is_of_the_files() {
        // From the authors' test vectors.
        assert_eq!(fnv(b"foobar".iter().copied()), 0x8594_4171_f739_67e8);
        let texts: String = FILES.iter().map(|(_, text)| *text).collect();
        assert_eq!(fingerprint(), fnv(texts.bytes()));
    }

    #[test]
    fn blocks_are_what_the_text_says() {
        let shape = file("shape.cuh");
        for element in [Element::Bf16, Element::F32] {
            let (threads, rows) = element.block();
            assert!(shape.contains(&format!("THREADS = {threads}, ROWS = {rows};")));
        }
    }
}
