//! What the kernels are told about one call (`plan.cuh` reads it): numbers, then tiles of rows.

use super::super::Pattern;

/// Elements from one row to the next, of each matrix.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strides {
    pub(super) q: usize,
    pub(super) k: usize,
    pub(super) v: usize,
    pub(super) o: usize,
    pub(super) d_o: usize,
    pub(super) d_q: usize,
    /// Of both.
    pub(super) d_kv: usize,
}

/// The words as the kernels read them, and how many tiles each of the two lists has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) words: Vec<i32>,
    pub(super) tiles: u32,
}

/// Words before the first list.
const HEADER: usize = 16;

#[derive(Clone, Copy)]
struct Tile {
    start: usize,
    end: usize,
    first: usize,
}

impl Plan {
    /// `tile_rows` is what a block owns (`Shape::ROWS`), `group` how many query heads share a key head.
    pub(super) fn new(pattern: &Pattern, group: usize, tile_rows: usize, strides: Strides) -> Self {
        let mut tiles = Vec::new();
        let mut rows = 0;
        for &tokens in &pattern.segments {
            let end = rows + tokens;
            let firsts = (rows..end).step_by(tile_rows);
            tiles.extend(firsts.map(|first| Tile {
                start: rows,
                end,
                first,
            }));
            rows = end;
        }
        let scale = (pattern.head_dim as f64).powf(-0.5) as f32;
        let number = |value: usize| i32::try_from(value).expect("rows and strides fit 31 bits");
        let mut words = vec![
            number(rows),
            number(group),
            i32::from(pattern.causal),
            scale.to_bits() as i32,
        ];
        let Strides {
            q,
            k,
            v,
            o,
            d_o,
            d_q,
            d_kv,
        } = strides;
        words.extend([q, k, v, o, d_o, d_q, d_kv].map(number));
        words.resize(HEADER, 0);
        // The longest work first, so that no long block starts when all others are done.
        let keys_seen = |tile: &Tile| match pattern.causal {
            true => tile.end.min(tile.first + tile_rows) - tile.start,
            false => tile.end - tile.start,
        };
        let seen_by = |tile: &Tile| match pattern.causal {
            true => tile.end - tile.first,
            false => tile.end - tile.start,
        };
        let mut list = |work: &dyn Fn(&Tile) -> usize| {
            let mut sorted = tiles.clone();
            sorted.sort_by_key(|tile| std::cmp::Reverse(work(tile)));
            for tile in sorted {
                words.extend([number(tile.start), number(tile.end), number(tile.first), 0]);
            }
        };
        list(&keys_seen);
        list(&seen_by);
        Self {
            words,
            tiles: tiles.len() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_end_with_their_segment_and_the_longest_work_comes_first() {
        let pattern = Pattern {
            head_dim: 64,
            segments: vec![3, 0, 9],
            causal: true,
        };
        let strides = Strides {
            q: 10,
            k: 11,
            v: 12,
            o: 13,
            d_o: 14,
            d_q: 15,
            d_kv: 16,
        };
        let plan = Plan::new(&pattern, 4, 4, strides);
        let scale = 0.125f32.to_bits() as i32;
        let header = [12, 4, 1, scale, 10, 11, 12, 13, 14, 15, 16, 0, 0, 0, 0, 0];
        assert_eq!(plan.words[..HEADER], header);
        assert_eq!(plan.tiles, 4);
        let lists: Vec<_> = plan.words[HEADER..]
            .chunks(4)
            .map(|t| (t[0], t[1], t[2]))
            .collect();
        // Queries: those of the last tile see nine keys.
        assert_eq!(lists[..4], [(3, 12, 11), (3, 12, 7), (3, 12, 3), (0, 3, 0)]);
        // Keys: the first are seen by all that follow; of two with equal work the first comes first.
        assert_eq!(lists[4..], [(3, 12, 3), (3, 12, 7), (0, 3, 0), (3, 12, 11)]);
    }

    #[test]
    fn without_a_mask_all_tiles_of_a_segment_have_the_same_work() {
        let pattern = Pattern {
            head_dim: 72,
            segments: vec![5, 9],
            causal: false,
        };
        let plan = Plan::new(&pattern, 1, 4, Strides::default());
        let firsts: Vec<_> = plan.words[HEADER..].chunks(4).map(|t| t[2]).collect();
        assert_eq!(firsts, [5, 9, 13, 0, 4, 5, 9, 13, 0, 4]);
        assert_eq!(
            Plan::new(
                &Pattern {
                    segments: vec![0],
                    ..pattern
                },
                1,
                4,
                Strides::default()
            )
            .tiles,
            0
        );
    }
}
