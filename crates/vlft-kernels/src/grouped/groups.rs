//! Which rows go to which group: sorted by group, in the order of the rows within one.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

/// N rows, each sent to `per_row` of the groups; the S = N * `per_row` copies lie sorted by group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    per_row: usize,
    /// Where each group begins among the copies, and their number. `[groups + 1]`
    starts: Vec<usize>,
    /// The row that each copy is of. `[S]`
    rows: Vec<u32>,
    /// Where the copies of each row went, in the order of its choices. `[N * per_row]`
    places: Vec<u32>,
}

impl Groups {
    /// `chosen`: `[N * per_row]` numbers of groups, row by row. A stable sort by counting, so that
    /// what follows has one order whatever runs it.
    pub fn new(chosen: &[u32], per_row: usize, groups: usize) -> Self {
        assert!(
            chosen.len().is_multiple_of(per_row.max(1)),
            "every row has as many choices"
        );
        let mut starts = vec![0usize; groups + 1];
        for group in chosen {
            starts[*group as usize + 1] += 1;
        }
        for group in 0..groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; chosen.len()];
        let mut places = vec![0; chosen.len()];
        for (i, group) in chosen.iter().enumerate() {
            let place = &mut next[*group as usize];
            rows[*place] = (i / per_row) as u32;
            places[i] = *place as u32;
            *place += 1;
        }
        Self {
            per_row,
            starts,
            rows,
            places,
        }
    }

    /// How many groups there are.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// How many rows are sent out, N.
    pub fn rows(&self) -> usize {
        self.places.len() / self.per_row.max(1)
    }

    /// How many copies there are, S.
    pub fn copies(&self) -> usize {
        self.rows.len()
    }

    /// To how many groups each row goes.
    pub fn per_row(&self) -> usize {
        self.per_row
    }

    /// The copies of one group.
    pub fn range(&self, group: usize) -> Range<usize> {
        self.starts[group]..self.starts[group + 1]
    }

    /// Groups that have rows, with their copies.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        (0..self.count())
            .map(|group| (group, self.range(group)))
            .filter(|(_, range)| !range.is_empty())
    }

    /// The row of a copy.
    pub(crate) fn row_of(&self, copy: usize) -> usize {
        self.rows[copy] as usize
    }

    /// Where the copies of a row are, in the order of its choices.
    pub(crate) fn places_of(&self, row: usize) -> &[u32] {
        &self.places[row * self.per_row..(row + 1) * self.per_row]
    }

    /// Where the copies of every row are, in the order of its choices.
    #[cfg(feature = "cube")]
    pub(crate) fn places(&self) -> &[u32] {
        &self.places
    }

    /// The row of every copy, `[S]`.
    pub fn row_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(&self.rows, device)
    }

    /// The copies of every row, `[N * per_row]`.
    pub fn place_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(&self.places, device)
    }
}

fn indices(numbers: &[u32], device: &Device) -> Tensor<1, Int> {
    let numbers: Vec<i32> = numbers.iter().map(|n| *n as i32).collect();
    let count = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_sorted_by_group_and_by_row() {
        // Four rows, two choices each, of four groups; group 2 stays empty.
        let groups = Groups::new(&[3, 0, 1, 3, 0, 1, 3, 0], 2, 4);
        assert_eq!(groups.rows, [0, 2, 3, 1, 2, 0, 1, 3]);
        assert_eq!(groups.places, [5, 0, 3, 6, 1, 4, 7, 2]);
        assert_eq!([0, 1, 2, 3].map(|g| groups.range(g).len()), [3, 2, 0, 3]);
        assert_eq!(groups.filled().count(), 3);
        assert_eq!((groups.rows(), groups.copies()), (4, 8));
        for row in 0..4 {
            for place in groups.places_of(row) {
                assert_eq!(groups.row_of(*place as usize), row);
            }
        }
    }

    #[test]
    fn no_rows_are_no_copies() {
        let groups = Groups::new(&[], 8, 128);
        assert_eq!(
            (groups.rows(), groups.copies(), groups.count()),
            (0, 0, 128)
        );
    }
}
