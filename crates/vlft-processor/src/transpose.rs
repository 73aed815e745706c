//! 16 x 16 bytes, rows to columns: between rows of pixels and the tiles of `resample`.

/// Bytes of one line.
pub(crate) const LANES: usize = 16;

pub(crate) type Line = [u8; LANES];
pub(crate) type Square = [Line; LANES];

/// Line c of the result, given to `put`, has byte c of every line that `get` gives: out[c][r] = in[r][c].
/// Nothing is gathered in between: what was just written byte by byte cannot be read back at once.
#[inline(always)]
pub(crate) fn transpose(get: impl Fn(usize) -> Line, put: impl FnMut(usize, Line)) {
    // Every x86-64 has SSE2, and the compiler knows: nothing is asked while the program runs.
    #[cfg(target_arch = "x86_64")]
    if let Some(sse2) = pulp::core_arch::x86::Sse2::try_new() {
        return with_sse2(sse2, get, put);
    }
    plain(get, put);
}

/// The definition.
#[inline(always)]
fn plain(get: impl Fn(usize) -> Line, mut put: impl FnMut(usize, Line)) {
    let square: Square = std::array::from_fn(get);
    for c in 0..LANES {
        put(c, square.map(|line| line[c]));
    }
}

/// Four rounds of "interleave line i with line i + 8": each rotates the eight bits of a byte's address
/// by one. An interleave is one instruction; what the compiler makes of loops takes five times longer.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn with_sse2(
    sse2: pulp::core_arch::x86::Sse2,
    get: impl Fn(usize) -> Line,
    mut put: impl FnMut(usize, Line),
) {
    macro_rules! interleave {
        ($v:ident: $($i:literal)*) => {[$(
            sse2._mm_unpacklo_epi8($v[$i], $v[$i + 8]),
            sse2._mm_unpackhi_epi8($v[$i], $v[$i + 8]),
        )*]};
    }
    let mut lines = [sse2._mm_setzero_si128(); LANES];
    for (i, line) in lines.iter_mut().enumerate() {
        let bytes = u128::from_le_bytes(get(i));
        *line = sse2._mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
    }
    let lines = interleave!(lines: 0 1 2 3 4 5 6 7);
    let lines = interleave!(lines: 0 1 2 3 4 5 6 7);
    let lines = interleave!(lines: 0 1 2 3 4 5 6 7);
    let lines = interleave!(lines: 0 1 2 3 4 5 6 7);
    for (i, line) in lines.into_iter().enumerate() {
        put(i, pulp::cast(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let square: Square =
            std::array::from_fn(|r| std::array::from_fn(|c| (r * LANES + c) as u8));
        let expected: Square =
            std::array::from_fn(|r| std::array::from_fn(|c| (c * LANES + r) as u8));
        let mut out = [[[0; LANES]; LANES]; 2];
        transpose(|r| square[r], |c, line| out[0][c] = line);
        plain(|r| square[r], |c, line| out[1][c] = line);
        assert_eq!(out, [expected; 2]);
    }
}
