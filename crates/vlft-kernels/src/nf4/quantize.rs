//! Quantising on the host, one tensor at a time, as bitsandbytes does it.

use rayon::prelude::*;

use super::code::{DYNAMIC_LEVELS, LEVELS, midpoints};

/// Weights that share a scale.
pub const BLOCK: usize = 64;
/// Scales that share a scale of their own, with double quantisation.
pub const NESTED_BLOCK: usize = 256;

/// A quantised tensor as plain numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// Two codes a byte, the even element in the high half. `[ceil(n / 2)]`
    pub codes: Vec<u8>,
    pub scales: PackedScales,
}

/// The largest magnitude of each block, `[ceil(n / BLOCK)]`, plain or quantised once more.
#[derive(Clone, Debug, PartialEq)]
pub enum PackedScales {
    Single(Vec<f32>),
    Double {
        /// Indices into [`DYNAMIC_LEVELS`], one a block.
        codes: Vec<u8>,
        /// One for each [`NESTED_BLOCK`] codes.
        nested: Vec<f32>,
        /// The mean that was taken off before.
        offset: f32,
    },
}

/// Quantises `values`. None if one of them is not finite: a code would hide it.
pub fn quantize(values: &[f32], double: bool) -> Option<Packed> {
    let (mids, absmax) = (midpoints(&LEVELS), absmax(values, BLOCK)?);
    let mut codes = vec![0; values.len().div_ceil(2)];
    codes
        .par_chunks_mut(BLOCK / 2)
        .zip(values.par_chunks(BLOCK))
        .zip(&absmax)
        .for_each(|((bytes, block), absmax)| pack(block, *absmax, &mids, bytes));
    let scales = match double {
        true => quantize_scales(&absmax)?,
        false => PackedScales::Single(absmax),
    };
    Some(Packed { codes, scales })
}

fn quantize_scales(absmax: &[f32]) -> Option<PackedScales> {
    let sum: f64 = absmax.iter().map(|x| f64::from(*x)).sum();
    let offset = (sum / absmax.len().max(1) as f64) as f32;
    let centred: Vec<f32> = absmax.iter().map(|x| x - offset).collect();
    let nested = self::absmax(&centred, NESTED_BLOCK)?;
    let mids = midpoints(&*DYNAMIC_LEVELS);
    let blocks = centred.chunks(NESTED_BLOCK).zip(&nested);
    let codes = blocks.flat_map(|(block, absmax)| {
        let (scaled, mids) = (scaler(*absmax), &mids);
        block
            .iter()
            .map(move |x| mids.partition_point(|mid| *mid < scaled(*x)) as u8)
    });
    Some(PackedScales::Double {
        codes: codes.collect(),
        nested,
        offset,
    })
}

fn absmax(values: &[f32], block: usize) -> Option<Vec<f32>> {
    values
        .par_chunks(block)
        .map(|block| {
            // NaN fails every comparison, so it is looked for by itself.
            let finite = block.iter().all(|x| x.is_finite());
            finite.then(|| block.iter().fold(0f32, |max, x| max.max(x.abs())))
        })
        .collect()
}

/// To [-1, 1]: a product with the reciprocal, as bitsandbytes has it, not a division.
fn scaler(absmax: f32) -> impl Fn(f32) -> f32 {
    let reciprocal = 1.0 / absmax.max(1e-38);
    move |x| (x * reciprocal).clamp(-1.0, 1.0)
}

fn pack(block: &[f32], absmax: f32, mids: &[f32], bytes: &mut [u8]) {
    let scaled = scaler(absmax);
    // Padding is the code of zero, as an odd number of weights leaves half a byte.
    let mut codes = [7u8; BLOCK];
    for (code, x) in codes.iter_mut().zip(block) {
        let x = scaled(*x);
        *code = mids.iter().map(|mid| u8::from(*mid < x)).sum();
    }
    for (byte, pair) in bytes.iter_mut().zip(codes.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_goes_to_the_lower_code_and_half_a_byte_is_zero() {
        let mids = midpoints(&LEVELS);
        let packed = quantize(&[1.0, mids[3], mids[3] + 1e-6, -1.0, 0.0], false).unwrap();
        assert_eq!(packed.codes, [0xf3, 0x40, 0x77]);
        assert_eq!(packed.scales, PackedScales::Single(vec![1.0]));
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; 130];
            values[129] = bad;
            assert_eq!(quantize(&values, true), None);
        }
        assert!(quantize(&[0.0; 130], true).is_some());
    }
}
