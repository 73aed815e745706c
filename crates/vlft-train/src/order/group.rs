//! Groups of samples: packed rows, and batches of similar lengths. Pure functions of an order and the
//! lengths of the samples.

/// Rows that may still get samples. More fill the rows a little better, and move samples further from
/// their place in the shuffle.
const OPEN_ROWS: usize = 32;

/// Batches whose samples are sorted together: enough to find samples of nearly the same length, few
/// enough to leave the order of an epoch to the shuffle.
const WINDOW_BATCHES: usize = 64;

/// First fit: each sample goes into the first open row that has room for it, else into a new row; the
/// fullest row is closed when there are too many. Rows are in the order of their first samples. A
/// sample longer than a row has a row of its own.
pub(super) fn pack(order: &[usize], lengths: &[usize], row_tokens: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // (row, tokens that it has room for), in the order of opening.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for &index in order {
        let length = lengths[index];
        if let Some((row, room)) = open.iter_mut().find(|(_, room)| *room >= length) {
            rows[*row].push(index);
            *room -= length;
            continue;
        }
        if open.len() == OPEN_ROWS {
            let fullest = (0..open.len()).min_by_key(|i| open[*i].1);
            open.remove(fullest.expect("rows are open"));
        }
        open.push((rows.len(), row_tokens.saturating_sub(length)));
        rows.push(vec![index]);
    }
    rows
}

/// Cuts the order into windows and each window, sorted by length, into batches. Samples of the same
/// length keep the order they have. One batch of the last window may be short. The batches of a window
/// come in the order of their first samples: as random as the order itself.
pub(super) fn by_length(order: &[usize], lengths: &[usize], micro_batch: usize) -> Vec<Vec<usize>> {
    let mut batches = Vec::with_capacity(order.len().div_ceil(micro_batch));
    for window in order.chunks(micro_batch * WINDOW_BATCHES) {
        let mut places: Vec<usize> = (0..window.len()).collect();
        places.sort_by_key(|place| lengths[window[*place]]);
        let mut sorted: Vec<&[usize]> = places.chunks(micro_batch).collect();
        sorted.sort_by_key(|batch| batch.iter().min().copied());
        batches.extend(
            sorted
                .into_iter()
                .map(|batch| batch.iter().map(|place| window[*place]).collect()),
        );
    }
    batches
}
