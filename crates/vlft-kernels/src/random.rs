//! Random numbers as a function of a key and a place: the same on every device, in any order, and
//! again when a block is run a second time for its backward or a run is resumed.

use rayon::prelude::*;

/// What a stream of numbers is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the run.
    pub seed: u64,
    /// Which forward pass of the run.
    pub pass: u64,
    /// Which module of the model.
    pub module: u32,
}

/// `count` numbers, uniform in [0, 1) with 24 bits each.
pub fn uniform(key: Key, count: usize) -> Vec<f32> {
    let mut numbers = vec![0f32; count];
    const RUN: usize = 4096;
    numbers
        .par_chunks_mut(RUN)
        .enumerate()
        .for_each(|(run, numbers)| {
            for (i, four) in numbers.chunks_mut(4).enumerate() {
                let place = (run * (RUN / 4) + i) as u64;
                for (number, bits) in four.iter_mut().zip(philox(key, place)) {
                    *number = (bits >> 8) as f32 / (1 << 24) as f32;
                }
            }
        });
    numbers
}

/// Philox 4x32 with ten rounds (Salmon et al. 2011), the generator of cuRAND and torch on GPUs.
fn philox(key: Key, place: u64) -> [u32; 4] {
    // Pass and module share a word: 2^32 passes, 2^32 modules, 2^32 blocks of four numbers.
    let counter = [
        place as u32,
        key.module,
        key.pass as u32,
        (key.pass >> 32) as u32,
    ];
    rounds(counter, [key.seed as u32, (key.seed >> 32) as u32])
}

fn rounds(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k = [
                k[0].wrapping_add(0x9e37_79b9),
                k[1].wrapping_add(0xbb67_ae85),
            ];
        }
        let (p0, p1) = (u64::from(c[0]) * 0xd251_1f53, u64::from(c[2]) * 0xcd9e_8d57);
        let (high, low) = (|p: u64| (p >> 32) as u32, |p: u64| p as u32);
        c = [
            high(p1) ^ c[1] ^ k[0],
            low(p1),
            high(p0) ^ c[3] ^ k[1],
            low(p0),
        ];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 (kat_vectors, philox4x32 10).
    #[test]
    fn philox_gives_the_published_numbers() {
        assert_eq!(
            rounds([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            rounds([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            rounds(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn numbers_depend_on_the_key_and_the_place_alone() {
        let key = Key {
            seed: 1,
            pass: 2,
            module: 3,
        };
        let numbers = uniform(key, 10_001);
        assert_eq!(numbers[..17], uniform(key, 17));
        for other in [
            Key { seed: 0, ..key },
            Key { pass: 3, ..key },
            Key { module: 2, ..key },
        ] {
            let same = uniform(other, 10_001);
            let equal = same.iter().zip(&numbers).filter(|(a, b)| a == b).count();
            assert!(equal < 10, "{other:?}: {equal}");
        }
        let mean = numbers.iter().sum::<f32>() / 10_001.0;
        assert!((mean - 0.5).abs() < 0.02 && numbers.iter().all(|x| (0.0..1.0).contains(x)));
    }
}
